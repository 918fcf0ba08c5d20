"""What all runs on CIFAR-100 share, as in the CRD benchmark (HobbitLong/RepDistiller, commit b84f547).

240 epochs, batch 64, SGD 0.05 with momentum 0.9 and decay 5e-4, rate × 0.1 after epochs
150, 180 and 210; random crops with a padding of 4, and flips.
"""
_base_ = ['mmpretrain::_base_/datasets/cifar100_bs16.py', 'mmpretrain::_base_/default_runtime.py']
train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=256)
model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, loss=dict(type='CrossEntropyLoss')))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=10)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=64)
