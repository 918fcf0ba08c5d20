"""A large teacher: ResNet-56 on all training images."""
_base_ = './resnet20_digits.py'
model = dict(backbone=dict(depth=56))
