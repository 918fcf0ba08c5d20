"""A small teacher: ResNet-8 on all training images."""
_base_ = './resnet20_digits.py'
model = dict(backbone=dict(depth=8))
