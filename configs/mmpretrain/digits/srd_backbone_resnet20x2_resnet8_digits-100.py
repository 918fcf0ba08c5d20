"""ResNet-20 of twice the width → narrow ResNet-8: cross-entropy + 2 × SRD on the pooled last feature + KL."""
_base_ = ['./resnet8_digits-100.py', '../srd_classification.py', '../diagnostics.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet20x2_digits.py',
    checkpoint='work_dirs/resnet20x2_digits/epoch_30.pth'))
