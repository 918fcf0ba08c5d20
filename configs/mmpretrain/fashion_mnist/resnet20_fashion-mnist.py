"""Teacher: ResNet-20 on all 60,000 images."""
_base_ = './fashion_mnist_base.py'
model = dict(backbone=dict(type='mmsrd.CifarResNet', depth=20, in_channels=1), head=dict(in_channels=64))
train_dataloader = dict(batch_size=128, dataset=dict(indices=None))
train_cfg = dict(max_epochs=5, val_interval=5)
param_scheduler = dict(T_max=5)
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=5))
