"""A large teacher: ResNet-20 of twice the width on all training images."""
_base_ = './resnet20_digits.py'
model = dict(backbone=dict(widths=(32, 32, 64, 128)), head=dict(in_channels=128))
