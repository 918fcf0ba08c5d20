"""Writes what the projectors do: spectra, effective rank, correlation of input and output."""
custom_hooks = [dict(type='mmsrd.ProjectorDiagnosticsHook', interval=100)]
