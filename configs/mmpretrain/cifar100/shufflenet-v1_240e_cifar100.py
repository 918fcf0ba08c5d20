"""ShuffleNetV1."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='mmsrd.CifarShuffleNetV1'), head=dict(in_channels=960))
optim_wrapper = dict(optimizer=dict(lr=0.01))
