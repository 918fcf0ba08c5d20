"""FCOS EfficientNet-Lite0 for people in a subset of COCO."""
_base_ = ['./fcos_lite0.py', './people.py', './schedule_1000.py']
model = dict(bbox_head=dict(num_classes=1))
