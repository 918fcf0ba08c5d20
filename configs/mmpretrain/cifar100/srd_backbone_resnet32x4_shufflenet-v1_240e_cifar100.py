"""resnet32x4 → ShuffleNetV1."""
_base_ = ['./shufflenet-v1_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet32x4_240e_cifar100.py',
    checkpoint='work_dirs/resnet32x4_240e_cifar100/epoch_240.pth'))
