"""FCOS with a ResNet-18 of width 32, for scenes of emoji: larger batches at half the rate, as the other teachers."""
_base_ = ['./fcos.py', './scenes_emoji.py']
model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[64, 128, 256], out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=48, num_classes=24))
train_dataloader = dict(batch_size=16)
train_cfg = dict(val_interval=150)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
