"""resnet56."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=56), head=dict(in_channels=64))
