"""FCOS ResNet-18 of width 16 on chess."""
_base_ = ['./fcos_r18w16.py', './chess.py', './schedule_1500.py']
model = dict(bbox_head=dict(num_classes=12))
