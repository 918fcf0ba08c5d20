"""ResNet50."""
_base_ = './cifar100_base.py'
model = dict(backbone=dict(type='ResNet_CIFAR', depth=50, out_indices=(3,), style='pytorch'),
             head=dict(in_channels=2048))
