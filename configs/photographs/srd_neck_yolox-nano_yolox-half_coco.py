"""YOLOX-nano of COCO → YOLOX with half of its backbone's width on a subset of COCO."""
_base_ = './yolox-half_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/yolox-nano_coco.py', checkpoint='data/yolox_nano_coco_mmdet.pth'))
