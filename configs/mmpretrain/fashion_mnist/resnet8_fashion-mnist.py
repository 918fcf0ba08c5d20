"""Student alone: ResNet-8 of half the usual width, all 60,000 labelled images, as many epochs as its teacher."""
_base_ = './resnet8_fashion-mnist-1k.py'
train_dataloader = dict(batch_size=128, dataset=dict(indices=None))
train_cfg = dict(max_epochs=5, val_interval=5)
param_scheduler = dict(T_max=5)
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=5))
