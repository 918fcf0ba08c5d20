"""RTMDet-Ins with a ResNet-18 of width 32: the teacher of the reduced setting."""
_base_ = ['./rtmdet_ins.py', './masks_128_teacher.py']
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[64, 128, 256], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=48))
