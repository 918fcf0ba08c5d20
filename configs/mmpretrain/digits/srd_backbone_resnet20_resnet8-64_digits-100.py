"""ResNet-20 → ResNet-8 whose last stage is wide: cross-entropy + 2 × SRD on the pooled feature + KL."""
_base_ = ['./resnet8-64_digits-100.py', '../srd_classification.py', '../diagnostics.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet20_digits.py',
    checkpoint='work_dirs/resnet20_digits/epoch_30.pth'))
