"""Registries of mmsrd, children of MMEngine's.

MMEngine imports ``mmsrd.registry`` by itself when a config names the scope
``mmsrd`` (``runner_type='mmsrd.DistillRunner'``), and imports ``locations`` when
a registry is asked for a name: a config needs no ``custom_imports``.
"""
from typing import Any

from mmengine.registry import DATASETS as ENGINE_DATASETS
from mmengine.registry import HOOKS as ENGINE_HOOKS
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import RUNNERS as ENGINE_RUNNERS
from mmengine.registry import Registry

MODELS = Registry('model', parent=ENGINE_MODELS, scope='mmsrd',
                  locations=['mmsrd.models'])
"""Losses, projectors and small models."""

DATASETS = Registry('dataset', parent=ENGINE_DATASETS, scope='mmsrd', locations=['mmsrd.datasets'])

HOOKS = Registry('hook', parent=ENGINE_HOOKS, scope='mmsrd', locations=['mmsrd.engine.hooks', 'mmsrd.resume'])

PRESETS = Registry('preset', scope='mmsrd', locations=['mmsrd.distillers.presets'])
"""Choices of losses, by the names that ``distill.preset`` has."""

TEACHERS = Registry('teacher', scope='mmsrd', locations=['mmsrd.teachers'])
"""Kinds of teachers, by the names that ``type`` has in ``distill.teacher``."""

RUNNERS = Registry('runner', parent=ENGINE_RUNNERS, build_func=ENGINE_RUNNERS.build_func, scope='mmsrd',
                   locations=['mmsrd.engine.runners'])


def engine_name(kind: Any) -> Any:
    """Return the name in MMEngine's registries of what a config has as ``type``; what is not MMEngine's as it is.

    Configs in pure Python have the class, and are saved with its module.

    Example:
        >>> engine_name('mmengine.runner.EpochBasedTrainLoop'), engine_name('mine.EpochBasedTrainLoop')
        ('EpochBasedTrainLoop', 'mine.EpochBasedTrainLoop')
    """
    if isinstance(kind, type) and kind.__module__.startswith('mmengine.'):
        return kind.__name__
    return kind.rpartition('.')[2] if isinstance(kind, str) and kind.startswith('mmengine.') else kind
