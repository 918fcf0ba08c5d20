"""FCOS with EfficientNet-Lite2, pretrained on ImageNet."""
_base_ = './fcos_lite0.py'
model = dict(
    backbone=dict(model_name='tf_efficientnet_lite2',
                  init_cfg=dict(type='Pretrained', checkpoint='data/efficientnet_lite2.pth')),
    neck=dict(in_channels=[48, 120, 352]))
