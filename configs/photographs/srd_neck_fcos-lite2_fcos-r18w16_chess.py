"""FCOS Lite2 → FCOS r18w16 on chess."""
_base_ = './fcos_r18w16_chess.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_lite2_chess.py', checkpoint='work_dirs/fcos_lite2_chess/iter_1000.pth'))
