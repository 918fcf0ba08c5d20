"""FCOS ResNet-18 of width 16 on bccd."""
_base_ = ['./fcos_r18w16.py', './bccd.py', './schedule_1500.py']
model = dict(bbox_head=dict(num_classes=3))
