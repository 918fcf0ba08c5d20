"""VGG13 → VGG8."""
_base_ = ['./vgg8_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/vgg13_240e_cifar100.py',
    checkpoint='work_dirs/vgg13_240e_cifar100/epoch_240.pth'))
