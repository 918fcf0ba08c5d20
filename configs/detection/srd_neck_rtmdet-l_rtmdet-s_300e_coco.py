"""RTMDet-l → RTMDet-s."""
_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py', checkpoint='auto'))
# The rate is for 8 × 32 images; what MMDetection's file inherits says 16.
auto_scale_lr = dict(base_batch_size=256)
