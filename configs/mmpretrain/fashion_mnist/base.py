"""What all runs on Fashion-MNIST share: data of the dataset class, augmentation, optimiser.

The training set is the first 1,000 of the 60,000 images (about 100 per class); the
teacher's config takes all.
"""
_base_ = 'mmpretrain::_base_/default_runtime.py'
data_preprocessor = dict(mean=[72.94], std=[90.02], num_classes=10)
train_pipeline = [
    dict(type='RandomCrop', crop_size=28, padding=2),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=50, num_workers=0, persistent_workers=False, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='FashionMNIST', data_root='data/fashion_mnist', split='train', indices=1000,
                 pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=500, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='FashionMNIST', data_root='data/fashion_mnist', split='test', test_mode=True,
                 pipeline=[dict(type='PackInputs')]))
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, loss=dict(type='CrossEntropyLoss')))
# The rate falls to zero along a cosine; there is nothing to choose but its start.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True))
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=60)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=60, convert_to_iter_based=True)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(type='CheckpointHook', interval=60))
randomness = dict(seed=0)
