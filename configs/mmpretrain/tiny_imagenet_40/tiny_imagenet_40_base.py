"""40 classes of Tiny-ImageNet, 500 + 50 photographs of 64×64 pixels each; see configs/photographs."""
_base_ = '../ten_classes.py'
model = dict(head=dict(num_classes=40))
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True, num_classes=40)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=8, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(batch_size=64, drop_last=True, dataset=dict(
    type='CustomDataset', data_root='data/tiny_imagenet_40/train', pipeline=train_pipeline))
val_dataloader = dict(batch_size=100, dataset=dict(
    type='CustomDataset', data_root='data/tiny_imagenet_40/val', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=10, val_interval=5)
param_scheduler = dict(T_max=10)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=10))
