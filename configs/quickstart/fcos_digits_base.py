"""FCOS on composed digits: what teacher and students of the quick start share.

Detector, data pipeline and runtime are those of the detection study. Here it has three stages, a third level that
the neck adds, fewer channels, and half the iterations.
"""
_base_ = ['../composed/fcos.py', '../composed/scenes_128.py']
data_root = 'work_dirs/quickstart/data/'
train_dataloader = dict(batch_size=16, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator

max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))

model = dict(
    backbone=dict(base_channels=8, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2)),
    neck=dict(in_channels=[8, 16, 32], out_channels=32, start_level=1, add_extra_convs='on_output',
              relu_before_extra_convs=True),
    bbox_head=dict(in_channels=32, feat_channels=32))
