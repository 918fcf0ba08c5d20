"""The large teacher of ``run.py``."""
_base_ = '../../../configs/mmpretrain/digits/resnet8_digits-100.py'
model = dict(backbone=dict(widths=(8, 8, 12, 24)), head=dict(in_channels=24))
