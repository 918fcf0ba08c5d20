"""What all runs on scikit-learn's digits share: 8×8 images in folders, and augmentation.

The training set is every twelfth image in order of class (100 of the 1,198, nine to
eleven per class); the teacher's config takes all.
"""
_base_ = '../ten_classes.py'
data_preprocessor = dict(mean=[73.0] * 3, std=[90.0] * 3, num_classes=10)
train_dataloader = dict(dataset=dict(
    type='CustomDataset', data_root='data/digits/train', indices=list(range(0, 1198, 12)), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]))
val_dataloader = dict(batch_size=200, dataset=dict(
    type='CustomDataset', data_root='data/digits/val', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=300, val_interval=300)
param_scheduler = dict(T_max=300)
default_hooks = dict(checkpoint=dict(interval=300))
