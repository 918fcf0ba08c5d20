"""ResNet-34 → ResNet-18, published: 71.63 (paper), 71.87 (authors' second run)."""
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../srd_classification.py']
distill = dict(teacher=dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py', checkpoint='auto'))
