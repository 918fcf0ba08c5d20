"""Heatmaps of keypoints, ResNet-50 → MobileNetV2, with MMPose."""
_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_mobilenetv2_8xb64-210e_coco-256x192.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py',
                 checkpoint='auto'))
