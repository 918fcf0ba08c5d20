"""VGG8."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='mmsrd.CifarVGG', depth=8), head=dict(in_channels=512))
