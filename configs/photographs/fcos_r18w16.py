"""FCOS with a ResNet-18 of width 16, trained from scratch."""
_base_ = './fcos_w64.py'
model = dict(
    backbone=dict(type='ResNet', depth=18, base_channels=16, num_stages=4, out_indices=(1, 2, 3), frozen_stages=-1,
                  norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False, style='pytorch'),
    neck=dict(in_channels=[32, 64, 128]))
