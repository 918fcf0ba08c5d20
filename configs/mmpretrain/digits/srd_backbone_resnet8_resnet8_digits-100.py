"""ResNet-8 → narrow ResNet-8: cross-entropy + 2 × SRD on the pooled last feature + KL on the logits."""
_base_ = ['./resnet8_digits-100.py', '../srd_classification.py', '../diagnostics.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet8_digits.py',
    checkpoint='work_dirs/resnet8_digits/epoch_30.pth'))
