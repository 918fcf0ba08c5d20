"""FCOS Lite2 → FCOS lite0 on bccd."""
_base_ = './fcos_lite0_bccd.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_lite2_bccd.py', checkpoint='work_dirs/fcos_lite2_bccd/iter_1000.pth'))
