"""The full recipe: cross-entropy + 2 × SRD on the pooled last feature + KL on the logits."""
_base_ = './resnet8_fashion-mnist-1k.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    preset='classification',
    teacher=dict(config='configs/mmpretrain/fashion_mnist/resnet20_fashion-mnist.py',
                 checkpoint='work_dirs/resnet20_fashion-mnist/epoch_8.pth'))
