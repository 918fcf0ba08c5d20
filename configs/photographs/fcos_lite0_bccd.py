"""FCOS EfficientNet-Lite0 on bccd."""
_base_ = ['./fcos_lite0.py', './bccd.py', './schedule_600.py']
model = dict(bbox_head=dict(num_classes=3))
