"""resnet56 → resnet20."""
_base_ = ['./resnet20_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet56_240e_cifar100.py',
    checkpoint='work_dirs/resnet56_240e_cifar100/epoch_240.pth'))
