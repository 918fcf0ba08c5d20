"""RT-DETR R50 of transformers → RTMDet-s: the encoder's maps and the neck's, at strides 8, 16 and 32."""
_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='transformers::PekingU/rtdetr_r50vd', checkpoint='auto'))
# The rate is for 8 × 32 images; what MMDetection's file inherits says 16.
auto_scale_lr = dict(base_batch_size=256)
