"""FCOS with ResNet-50: the teacher of the full setting."""
_base_ = ['./fcos.py', './scenes_256_teacher.py']
model = dict(backbone=dict(depth=50), neck=dict(in_channels=[512, 1024, 2048]))
