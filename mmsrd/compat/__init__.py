"""What mmsrd does so that the toolboxes work from wheels alone on current PyTorch."""
from .checkpoints import allow_mmengine_globals, load_checkpoint_file
from .mmcv_ext import has_compiled_ops, install

__all__ = ['allow_mmengine_globals', 'has_compiled_ops', 'install', 'load_checkpoint_file']
