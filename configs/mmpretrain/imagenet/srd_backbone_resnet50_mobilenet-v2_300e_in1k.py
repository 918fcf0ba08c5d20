"""ResNet-50 → MobileNetV2, on MMPretrain's own schedule for the student."""
_base_ = ['mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py', '../srd_classification.py']
distill = dict(teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py', checkpoint='auto'))
