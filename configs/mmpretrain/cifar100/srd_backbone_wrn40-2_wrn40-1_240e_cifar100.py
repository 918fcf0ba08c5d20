"""WRN-40-2 → WRN-40-1."""
_base_ = ['./wrn40-1_240e_cifar100.py', '../srd_classification.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/wrn40-2_240e_cifar100.py',
    checkpoint='work_dirs/wrn40-2_240e_cifar100/epoch_240.pth'))
