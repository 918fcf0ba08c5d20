"""YOLOX with EfficientNet-Lite0, pretrained on ImageNet, on a subset of COCO; its head has YOLOX-nano's layers."""
_base_ = ['./yolox_nano.py', './coco_subset.py', './schedule_1000.py']
custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
    backbone=dict(
        _delete_=True, type='mmpretrain.TIMMBackbone', model_name='tf_efficientnet_lite0', features_only=True,
        out_indices=(2, 3, 4),
        init_cfg=dict(type='Pretrained', checkpoint='data/efficientnet_lite0.pth')),
    neck=dict(in_channels=[40, 112, 320]))
