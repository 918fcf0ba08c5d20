"""RTMDet-Ins with a ResNet-18 of width 8: the student of the reduced setting."""
_base_ = ['./rtmdet_ins.py', './masks_128.py']
model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=48))
