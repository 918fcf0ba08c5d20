"""ResNet-50 → MobileNetV1."""
_base_ = ['./mobilenet-v1_8xb32_in1k.py', '../srd_classification.py']
distill = dict(teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py', checkpoint='auto'))
