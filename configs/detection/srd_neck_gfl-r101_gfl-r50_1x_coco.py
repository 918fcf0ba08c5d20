"""GFL R101 → R50, a pair of CrossKD."""
_base_ = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint='auto'))
