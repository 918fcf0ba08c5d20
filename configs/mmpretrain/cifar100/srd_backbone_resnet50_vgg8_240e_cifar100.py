"""ResNet50 → VGG8."""
_base_ = ['./vgg8_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet50_240e_cifar100.py',
    checkpoint='work_dirs/resnet50_240e_cifar100/epoch_240.pth'))
