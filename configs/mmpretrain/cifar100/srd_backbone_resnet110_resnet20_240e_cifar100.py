"""resnet110 → resnet20."""
_base_ = ['./resnet20_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet110_240e_cifar100.py',
    checkpoint='work_dirs/resnet110_240e_cifar100/epoch_240.pth'))
