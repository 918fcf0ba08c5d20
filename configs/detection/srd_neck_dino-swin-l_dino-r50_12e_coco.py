"""DINO Swin-L → R50. The teacher has five levels from stride 4, the student four from stride 8."""
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::dino/dino-5scale_swin-l_8xb2-36e_coco.py', checkpoint='auto'))
auto_scale_lr = dict(enable=False)  # MMDetection's --auto-scale-lr looks for this key
