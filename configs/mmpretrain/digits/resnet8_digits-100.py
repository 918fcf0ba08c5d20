"""Student alone: ResNet-8 of a quarter of the usual width, 100 labelled images."""
_base_ = './digits_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=8, widths=(4, 4, 8, 16)), head=dict(in_channels=16))
