"""Teacher: EfficientNet-Lite0 with ImageNet weights, fine-tuned at 128 pixels."""
_base_ = './tiny_imagenet_40_base.py'
SIDE = 128
model = dict(
    backbone=dict(type='TIMMBackbone', model_name='tf_efficientnet_lite0',
                  init_cfg=dict(type='Pretrained', checkpoint='data/efficientnet_lite0.pth')),
    head=dict(in_channels=1280))
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=8, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='Resize', scale=SIDE, interpolation='bilinear'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=SIDE, interpolation='bilinear'),
    dict(type='PackInputs')]))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = dict(T_max=2)
default_hooks = dict(checkpoint=dict(interval=2))
