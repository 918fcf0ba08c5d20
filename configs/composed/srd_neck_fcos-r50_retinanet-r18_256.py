"""FCOS r50 → RetinaNet r18: SRD on the three levels of the neck, and what its projectors do."""
_base_ = './retinanet_r18_256.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(
        config='configs/composed/fcos_r50_256.py',
        checkpoint='work_dirs/fcos_r50_256/iter_4800.pth'),
    losses=dict(neck=dict(type='SRDLoss', student='neck', teacher='neck', alpha=4.0, weight=0.25)))
custom_hooks = [dict(type='mmsrd.ProjectorDiagnosticsHook', interval=100)]
