"""resnet32x4."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=32, widths=(32, 64, 128, 256)), head=dict(in_channels=256))
