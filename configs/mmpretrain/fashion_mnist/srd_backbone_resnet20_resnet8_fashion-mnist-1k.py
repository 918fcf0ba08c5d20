"""ResNet-20 → ResNet-8: cross-entropy + 2 × SRD on the pooled last feature + KL on the logits."""
_base_ = ['./resnet8_fashion-mnist-1k.py', '../srd_classification.py', '../diagnostics.py']
distill = dict(teacher=dict(
    config='{{ fileDirname }}/resnet20_fashion-mnist.py',
    checkpoint='work_dirs/resnet20_fashion-mnist/epoch_5.pth'))
