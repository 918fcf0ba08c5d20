"""ResNet50 → MobileNetV2."""
_base_ = ['./mobilenet-v2_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet50_240e_cifar100.py',
    checkpoint='work_dirs/resnet50_240e_cifar100/epoch_240.pth'))
