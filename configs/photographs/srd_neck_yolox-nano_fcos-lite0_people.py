"""YOLOX-nano of COCO → FCOS EfficientNet-Lite0 for people in a subset of COCO."""
_base_ = './fcos_lite0_people.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/yolox-nano_coco.py', checkpoint='data/yolox_nano_coco_mmdet.pth'))
