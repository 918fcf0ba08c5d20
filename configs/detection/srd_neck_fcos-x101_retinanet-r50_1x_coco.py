"""FCOS X101-64x4d → RetinaNet R50: different heads, levels P3 to P7 in both; a pair of PKD."""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py', checkpoint='auto'))
