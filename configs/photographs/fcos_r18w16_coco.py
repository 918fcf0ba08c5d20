"""FCOS ResNet-18 of width 16 on a subset of COCO."""
_base_ = ['./fcos_r18w16.py', './coco_subset.py', './schedule_3000.py']
model = dict(bbox_head=dict(num_classes=80))
