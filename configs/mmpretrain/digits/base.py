"""What all runs on scikit-learn's digits share: 8×8 images in folders, augmentation, optimiser.

The training set is every twelfth image in order of class (100 of the 1,198, nine to
eleven per class); the teacher's config takes all.
"""
_base_ = 'mmpretrain::_base_/default_runtime.py'
data_preprocessor = dict(mean=[73.0] * 3, std=[90.0] * 3, num_classes=10)
train_dataloader = dict(
    batch_size=50, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='data/digits/train', indices=list(range(0, 1198, 12)), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]))
val_dataloader = dict(
    batch_size=200, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='data/digits/val', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, loss=dict(type='CrossEntropyLoss')))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True))
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=300)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=300, convert_to_iter_based=True)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(type='CheckpointHook', interval=300))
randomness = dict(seed=0)
