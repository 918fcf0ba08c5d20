"""Compatibility: mmcv without compiled operators, checkpoints of MMEngine, versions of PyTorch."""
from .mmcv_ext import has_compiled_ops, install
from .safe_checkpoints import allow_mmengine_globals, load_checkpoint_file, make_plain

__all__ = ['allow_mmengine_globals', 'has_compiled_ops', 'install', 'load_checkpoint_file', 'make_plain']
