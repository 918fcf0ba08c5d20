"""FCOS with EfficientNet-Lite0, pretrained on ImageNet."""
_base_ = './fcos_w64.py'
custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.TIMMBackbone', model_name='tf_efficientnet_lite0', features_only=True,
        out_indices=(2, 3, 4),
        init_cfg=dict(type='Pretrained', checkpoint='data/efficientnet_lite0.pth')),
    neck=dict(in_channels=[40, 112, 320]))
