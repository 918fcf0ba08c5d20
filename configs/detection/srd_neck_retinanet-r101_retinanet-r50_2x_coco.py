"""RetinaNet R101 → R50."""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', checkpoint='auto'))
