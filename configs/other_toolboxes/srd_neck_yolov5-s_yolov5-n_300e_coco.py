"""YOLOv5 s → n, with MMYOLO."""
_base_ = 'mmyolo::yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmyolo::yolov5/yolov5_s-v61_syncbn_fast_8xb16-300e_coco.py', checkpoint='auto'))
