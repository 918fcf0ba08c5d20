"""SRD as the preset chooses it, and what its projectors do; the configs of a pair inherit it."""
runner_type = 'mmsrd.DistillRunner'
custom_hooks = [dict(type='mmsrd.ProjectorDiagnosticsHook', interval=100)]
