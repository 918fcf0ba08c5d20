"""YOLOX-nano of COCO → YOLOX EfficientNet-Lite0 on a subset of COCO."""
_base_ = './yolox-lite0_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/yolox-nano_coco.py', checkpoint='data/yolox_nano_coco_mmdet.pth'))
