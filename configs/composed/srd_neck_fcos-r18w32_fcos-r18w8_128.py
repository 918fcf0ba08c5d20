"""FCOS r18w32 → FCOS r18w8: SRD on the three levels of the neck, and what its projectors do."""
_base_ = './fcos_r18w8_128.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(
    teacher=dict(
        config='configs/composed/fcos_r18w32_128.py',
        checkpoint='work_dirs/fcos_r18w32_128/iter_1200.pth'),
    losses=dict(neck=dict(type='SRDLoss', student='neck', teacher='neck', alpha=4.0, weight=0.25)))
custom_hooks = [dict(type='mmsrd.ProjectorDiagnosticsHook', interval=100)]
