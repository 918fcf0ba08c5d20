"""RetinaNet X101-64x4d → R50, a pair of PKD."""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py', checkpoint='auto'))
