"""WRN-40-2."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='mmsrd.CifarWideResNet', depth=40, widen_factor=2), head=dict(in_channels=128))
