"""FCOS ResNet-18 of width 16 for people in a subset of COCO."""
_base_ = ['./fcos_r18w16.py', './people.py', './schedule_3000.py']
model = dict(bbox_head=dict(num_classes=1))
