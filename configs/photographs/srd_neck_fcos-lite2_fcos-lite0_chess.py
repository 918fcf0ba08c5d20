"""FCOS Lite2 → FCOS lite0 on chess."""
_base_ = './fcos_lite0_chess.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_lite2_chess.py', checkpoint='work_dirs/fcos_lite2_chess/iter_1000.pth'))
