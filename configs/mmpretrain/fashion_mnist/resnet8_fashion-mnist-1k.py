"""Student alone: ResNet-8 of half the usual width, 1,000 labelled images."""
_base_ = './fashion_mnist_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=8, widths=(8, 8, 16, 32), in_channels=1),
             head=dict(in_channels=32))
