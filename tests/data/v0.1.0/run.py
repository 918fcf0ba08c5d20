"""A short run with every kind of loss, projector and teacher: what version 0.1.0 saved of it is beside this file."""
_base_ = '../../../configs/mmpretrain/digits/resnet8_digits-100.py'
runner_type = 'mmsrd.DistillRunner'
train_dataloader = dict(batch_size=25, sampler=dict(shuffle=False), dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='PackInputs')]))  # nothing random: MMEngine saves no random states
train_cfg = dict(max_epochs=2, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=1))
log_level = 'ERROR'
distill = dict(
    teachers=dict(
        large=dict(config='teacher.py', checkpoint='teacher.pth'),
        average=dict(ema=dict(momentum=0.1))),
    losses=dict(
        feature=dict(student='backbone', teacher='backbone', from_teacher='large', pool=True, weight=2.0),
        maps=dict(student='backbone', teacher='backbone', from_teacher='large', form='correlation',
                  projector=dict(type='MLPProjector', layers=2, hidden=12)),
        itself=dict(type='PKDLoss', student='backbone.stages.1', teacher='backbone.stages.1', from_teacher='average',
                    projector=None),
        logits=dict(type='KLDivLoss', student='head.fc', teacher='head.fc', from_teacher='large', temperature=2.0)),
    schedule=dict(warmup=6))
