"""For teachers of masks: batches of twice the size at half the rate."""
_base_ = './masks_128.py'
train_dataloader = dict(batch_size=16)
train_cfg = dict(val_interval=150)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
