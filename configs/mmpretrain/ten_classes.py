"""What all runs on Fashion-MNIST and digits share: ten classes, SGD whose rate falls to zero along a cosine."""
_base_ = 'mmpretrain::_base_/default_runtime.py'
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, loss=dict(type='CrossEntropyLoss')))
train_dataloader = dict(
    batch_size=50, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=500, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True))
train_cfg = dict(by_epoch=True)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(type='CheckpointHook'))
randomness = dict(seed=0)
