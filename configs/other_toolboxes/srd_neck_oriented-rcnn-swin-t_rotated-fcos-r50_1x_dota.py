"""Oriented R-CNN Swin-T → rotated FCOS R50, with MMRotate."""
_base_ = 'mmrotate::rotated_fcos/rotated-fcos-hbox-le90_r50_fpn_1x_dota.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmrotate::oriented_rcnn/oriented-rcnn-le90_swin-tiny_fpn_1x_dota.py', checkpoint='auto'))
