"""The teacher: backbone of width 32, twice the channels in neck and head."""
_base_ = './fcos_digits_base.py'
train_cfg = dict(val_interval={{_base_.max_iters}})  # at the end only: the quick start is to be quick
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64))
