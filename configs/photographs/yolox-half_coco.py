"""YOLOX with a backbone of half the width of YOLOX-nano's, and its neck and head, on a subset of COCO."""
_base_ = ['./yolox_nano.py', './coco_subset.py', './schedule_3000.py']
model = dict(backbone=dict(widen_factor=0.125), neck=dict(in_channels=[32, 64, 128]))
