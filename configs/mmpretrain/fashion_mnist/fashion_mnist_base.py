"""What all runs on Fashion-MNIST share: the data of MMPretrain's dataset class, and augmentation.

The training set is the first 1,000 of the 60,000 images (about 100 per class); the
teacher's config takes all.
"""
_base_ = '../ten_classes.py'
data_preprocessor = dict(mean=[72.94], std=[90.02], num_classes=10)
train_pipeline = [
    dict(type='RandomCrop', crop_size=28, padding=2),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(drop_last=True, dataset=dict(
    type='FashionMNIST', data_root='data/fashion_mnist', split='train', indices=1000, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    type='FashionMNIST', data_root='data/fashion_mnist', split='test', test_mode=True,
    pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=60, val_interval=60)
param_scheduler = dict(T_max=60)
default_hooks = dict(checkpoint=dict(interval=60))
