"""ResNet-101 of timm, trained by its A1 recipe → ResNet-18."""
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../srd_classification.py']
distill = dict(
    teacher=dict(config='timm::resnet101.a1_in1k', checkpoint='auto'),
    losses=dict(feature=dict(levels=[(0, -1)]), logits=dict(teacher='model.fc')))
