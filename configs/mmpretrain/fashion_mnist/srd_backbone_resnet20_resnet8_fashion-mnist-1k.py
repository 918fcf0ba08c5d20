"""The full recipe: cross-entropy + 2 × SRD on the pooled last feature + KL on the logits."""
_base_ = './resnet8_fashion-mnist-1k.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(config='configs/mmpretrain/fashion_mnist/resnet20_fashion-mnist.py',
                 checkpoint='work_dirs/resnet20_fashion-mnist/epoch_5.pth'),
    losses=dict(
        feature=dict(type='SRDLoss', student='backbone', teacher='backbone', pool=True, alpha=4.0, weight=2.0),
        logits=dict(type='KLDivLoss', student='head.fc', teacher='head.fc', weight=1.0)))
