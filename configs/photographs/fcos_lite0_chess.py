"""FCOS EfficientNet-Lite0 on chess."""
_base_ = ['./fcos_lite0.py', './chess.py', './schedule_600.py']
model = dict(bbox_head=dict(num_classes=12))
