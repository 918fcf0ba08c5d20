"""resnet56 → resnet20."""
_base_ = ['./resnet20_240e_cifar100.py', '../srd.py']
distill = dict(teacher=dict(
    config='configs/mmpretrain/cifar100/resnet56_240e_cifar100.py',
    checkpoint='work_dirs/resnet56_240e_cifar100/epoch_240.pth'))
