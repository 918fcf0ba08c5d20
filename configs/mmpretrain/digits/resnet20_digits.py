"""Teacher: ResNet-20 on all training images."""
_base_ = './digits_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=20), head=dict(in_channels=64))
train_dataloader = dict(batch_size=100, dataset=dict(indices=None))
train_cfg = dict(max_epochs=30, val_interval=30)
param_scheduler = dict(T_max=30)
default_hooks = dict(checkpoint=dict(interval=30))
