"""EfficientNet-Lite0 → MobileNetV2: SRD on the pooled last feature and KL; the teacher sees twice the size."""
_base_ = ['./mobilenet-v2_tiny-imagenet-40.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/lite0_tiny-imagenet-40.py', scale=2.0,
    checkpoint='work_dirs/lite0_tiny-imagenet-40/epoch_2.pth'))
