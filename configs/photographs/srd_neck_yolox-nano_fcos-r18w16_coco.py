"""YOLOX-nano of COCO → FCOS ResNet-18 of width 16 on a subset of COCO."""
_base_ = './fcos_r18w16_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='mmdet::yolox/yolox_nano_8xb8-300e_coco.py', checkpoint='data/yolox_nano_coco_mmdet.pth'))
