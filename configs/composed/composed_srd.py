"""SRD on the three levels of the neck, and what its projectors do; the configs of a pair inherit it."""
runner_type = 'mmsrd.DistillRunner'
distill = dict(losses=dict(neck=dict(type='SRDLoss', student='neck', teacher='neck', alpha=4.0, balance=1.0)))
custom_hooks = [dict(type='mmsrd.ProjectorDiagnosticsHook', interval=100)]
