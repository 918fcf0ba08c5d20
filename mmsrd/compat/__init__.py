"""What mmsrd does so that the toolboxes work from wheels alone on current PyTorch."""
from .mmcv_ext import has_compiled_ops, install
from .plain_values import make_plain
from .safe_loading import allow_mmengine_globals, load_checkpoint_file

__all__ = ['allow_mmengine_globals', 'has_compiled_ops', 'install', 'load_checkpoint_file',
           'make_plain']
