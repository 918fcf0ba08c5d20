"""FCOS with a ResNet-18 of width 16, trained from scratch."""
_base_ = './fcos_w64.py'
model = dict(backbone=dict(base_channels=16), neck=dict(in_channels=[32, 64, 128]))
