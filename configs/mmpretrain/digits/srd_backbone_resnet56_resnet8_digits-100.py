"""ResNet-56 → narrow ResNet-8: cross-entropy + 2 × SRD on the pooled last feature + KL on the logits."""
_base_ = ['./resnet8_digits-100.py', '../srd.py', '../diagnostics.py']
distill = dict(teacher=dict(
    config='configs/mmpretrain/digits/resnet56_digits.py',
    checkpoint='work_dirs/resnet56_digits/epoch_30.pth'))
