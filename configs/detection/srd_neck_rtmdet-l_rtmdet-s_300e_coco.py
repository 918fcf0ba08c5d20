"""RTMDet-l → RTMDet-s."""
_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py', checkpoint='auto'))
