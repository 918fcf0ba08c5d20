"""FCOS Lite2 → GFL r18w16 on chess: detectors of two kinds."""
_base_ = './gfl_r18w16_chess.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_lite2_chess.py', checkpoint='work_dirs/fcos_lite2_chess/iter_1000.pth'))
