"""FCOS EfficientNet-Lite2 on chess."""
_base_ = ['./fcos_lite2.py', './chess.py', './schedule_1000.py']
model = dict(bbox_head=dict(num_classes=12))
