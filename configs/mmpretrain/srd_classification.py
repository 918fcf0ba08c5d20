"""The published recipe for convolutional classifiers: 2 × SRD on the pooled last feature and KL on the logits at T = 1.

The configs of a pair inherit it and name their teacher. The sources at hand give the
weights for ImageNet; for the other data sets they are taken over.
"""
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    losses=dict(
        feature=dict(type='SRDLoss', student='backbone', teacher='backbone', pool=True, alpha=4.0, weight=2.0),
        logits=dict(type='KLDivLoss', student='head.fc', teacher='head.fc', weight=1.0)))
