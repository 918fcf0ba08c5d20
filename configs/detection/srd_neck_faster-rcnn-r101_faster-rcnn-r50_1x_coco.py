"""Faster R-CNN R101 → R50, one of the pairs of ReviewKD."""
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='auto'))
