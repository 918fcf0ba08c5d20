"""Student alone: ResNet-8."""
_base_ = './tiny_imagenet_40_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=8), head=dict(in_channels=64))
