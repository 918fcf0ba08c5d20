"""Mask R-CNN with a ResNet-18 of width 8: the student of the reduced setting."""
_base_ = ['./mask_rcnn.py', './masks_128.py']
model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=48),
    rpn_head=dict(in_channels=48, feat_channels=48),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=48), bbox_head=dict(in_channels=48, fc_out_channels=64),
        mask_roi_extractor=dict(out_channels=48), mask_head=dict(in_channels=48, conv_out_channels=48)))
