"""MobileNetV1 on the schedule of the ResNets, which distillation papers use for it."""
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
model = dict(backbone=dict(_delete_=True, type='mmsrd.MobileNetV1'), head=dict(in_channels=1024))
