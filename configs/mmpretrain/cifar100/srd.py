"""The published recipe for ImageNet on the benchmark's schedule: 2 × SRD on the pooled last feature, KL at T = 1.

The sources at hand do not give the paper's weights for CIFAR-100. The configs of a pair
inherit this and name their teacher.
"""
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    losses=dict(
        feature=dict(type='SRDLoss', student='backbone', teacher='backbone', pool=True, alpha=4.0, weight=2.0),
        logits=dict(type='KLDivLoss', student='head.fc', teacher='head.fc', weight=1.0)))
