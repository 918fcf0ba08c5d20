"""Mask R-CNN with a ResNet-18 of width 32: the teacher of the reduced setting."""
_base_ = ['./mask_rcnn.py', './masks_128_teacher.py']
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[64, 128, 256], out_channels=48),
    rpn_head=dict(in_channels=48, feat_channels=48),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=48), bbox_head=dict(in_channels=48, fc_out_channels=128),
        mask_roi_extractor=dict(out_channels=48), mask_head=dict(in_channels=48, conv_out_channels=48)))
