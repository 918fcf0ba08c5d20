"""DINOv3 ViT-B → RTMDet-s: a teacher without boxes, at the neck's level of stride 16."""
_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='timm::vit_base_patch16_dinov3.lvd1689m', checkpoint='auto'))
# The rate is for 8 × 32 images; what MMDetection's file inherits says 16.
auto_scale_lr = dict(base_batch_size=256)
