"""YOLOX-nano that has learned all of COCO, measured on the subset: one iteration that changes nothing."""
_base_ = ['./yolox_nano.py', './coco_subset.py']
STILL = dict(momentum=0.0)  # running statistics stay
model = dict(backbone=dict(norm_cfg=STILL), neck=dict(norm_cfg=STILL), bbox_head=dict(norm_cfg=STILL))
val_evaluator = dict(classwise=True)  # the AP of people, too
load_from = 'data/yolox_nano_coco_mmdet.pth'
optim_wrapper = dict(optimizer=dict(lr=0.0))
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
