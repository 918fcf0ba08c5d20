"""Student alone: MobileNetV2 with half the widths."""
_base_ = './tiny_imagenet_40_base.py'
model = dict(backbone=dict(type='mmsrd.CifarMobileNetV2'), head=dict(in_channels=1280))
optim_wrapper = dict(optimizer=dict(lr=0.05))
