"""FCOS on composed digits: what teacher and students of the quick start share.

Built from scratch for two CPU cores: 128×128 images, three feature levels,
batch normalisation but for the head, ten classes. Data pipeline and runtime are
those of the detection study.
"""
_base_ = '../composed/scenes_128.py'
data_root = 'work_dirs/quickstart/data/'
train_dataloader = dict(batch_size=16, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator

max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=150)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))

model = dict(
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[127.5] * 3, std=[60.0] * 3, bgr_to_rgb=False, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
        out_indices=(0, 1, 2), frozen_stages=-1, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False,
        style='pytorch'),
    neck=dict(
        type='FPN', in_channels=[8, 16, 32], out_channels=32, start_level=1, add_extra_convs='on_output',
        num_outs=3, norm_cfg=dict(type='BN'), relu_before_extra_convs=True),
    bbox_head=dict(
        type='FCOSHead', num_classes=10, in_channels=32, feat_channels=32, stacked_convs=1, strides=(8, 16, 32),
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)), norm_cfg=dict(type='GN', num_groups=8), center_sampling=True,
        center_sample_radius=1.5, norm_on_bbox=True, centerness_on_reg=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=50))
