"""resnet110 → resnet32."""
_base_ = ['./resnet32_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet110_240e_cifar100.py',
    checkpoint='work_dirs/resnet110_240e_cifar100/epoch_240.pth'))
