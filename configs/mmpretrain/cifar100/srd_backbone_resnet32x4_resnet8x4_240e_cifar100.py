"""resnet32x4 → resnet8x4."""
_base_ = ['./resnet8x4_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet32x4_240e_cifar100.py',
    checkpoint='work_dirs/resnet32x4_240e_cifar100/epoch_240.pth'))
