"""DINOv2 ViT-S → RetinaNet R50: a teacher without boxes, at the neck's level of stride 16."""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='timm::vit_small_patch14_dinov2.lvd142m', checkpoint='auto'))
