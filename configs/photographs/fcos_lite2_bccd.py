"""FCOS EfficientNet-Lite2 on bccd."""
_base_ = ['./fcos_lite2.py', './bccd.py', './schedule_1000.py']
model = dict(bbox_head=dict(num_classes=3))
