"""Knowledge distillation by SRD for any MMDetection or MMPretrain config.

Importing it makes MMEngine checkpoints loadable under ``weights_only=True`` and,
where mmcv has no compiled operators, puts a torchvision-backed stand-in in their
place. It imports neither mmdet nor mmpretrain.
"""
from typing import Any

from . import compat
from .version import __version__

compat.install()
compat.allow_mmengine_globals()

__all__ = ['__version__', 'attach']


def __getattr__(name: str) -> Any:
    if name == 'attach':  # lazily, because MMEngine imports this package for its registry alone
        from .attachment import attach
        return attach
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
