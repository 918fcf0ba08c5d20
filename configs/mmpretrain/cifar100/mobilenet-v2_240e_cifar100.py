"""MobileNetV2."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='mmsrd.CifarMobileNetV2'), head=dict(in_channels=1280))
optim_wrapper = dict(optimizer=dict(lr=0.01))
