"""Faster R-CNN R50 → MobileNetV2, one of the pairs of ReviewKD."""
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        _delete_=True, type='MobileNetV2', out_indices=(1, 2, 4, 6), norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True, init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 320]))
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py', checkpoint='auto'))
