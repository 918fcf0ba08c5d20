"""Knowledge distillation by SRD for any MMDetection or MMPretrain config.

Importing it makes MMEngine checkpoints loadable under ``weights_only=True`` and,
where mmcv has no compiled operators, puts a torchvision-backed stand-in in their
place. It imports neither mmdet nor mmpretrain.
"""
from __future__ import annotations

import importlib
from typing import Any

from .env import check_versions
from .version import __version__

check_versions()  # before anything is imported that might be missing

from . import compat  # noqa: E402

compat.install()
compat.allow_mmengine_globals()

# Imported on first use, because MMEngine imports this package for its registry alone.
_FOLDERS = {
    'distillers': ('attach', 'detach', 'FeatureLoss', 'ProjectorDistiller'),
    'engine.hooks': ('DistillHook', 'DistillReportHook', 'ProjectorDiagnosticsHook'),
    'engine.runners': ('DistillFlexibleRunner', 'DistillMixin', 'DistillRunner'),
    'resume': ('PreemptionHook', 'ResumeMixin'),
    'models.losses': ('BaseDistillLoss', 'BinaryKLDivLoss', 'CWDLoss', 'DISTLoss', 'FeatureMSELoss', 'KLDivLoss',
                      'LDLoss', 'PKDLoss', 'SRDLoss', 'VkDLoss'),
    'models.projectors': ('BaseProjector', 'LinearProjector', 'MLPProjector', 'OrthogonalProjector'),
}
_FOLDER_OF = {name: room for room, names in _FOLDERS.items() for name in names}

__all__ = ['__version__', *_FOLDER_OF]


def __getattr__(name: str) -> Any:
    if name not in _FOLDER_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_FOLDER_OF[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FOLDER_OF})
