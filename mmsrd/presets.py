"""Losses chosen for a model where the config names none."""
from __future__ import annotations

from torch import nn

from .config import ROOT, LossConfig
from .errors import ConfigError


def default_preset(student: nn.Module) -> str:
    """``'detection'`` for a model with boxes to predict, ``'classification'`` for one with one head."""
    is_detector = any(hasattr(student, name) for name in ('bbox_head', 'rpn_head', 'roi_head', 'mask_head'))
    return 'detection' if is_detector or not hasattr(student, 'head') else 'classification'


def preset_losses(preset: str | None, student: nn.Module, teacher: nn.Module) -> list[LossConfig]:
    """Losses of ``preset``, or of the one that fits the student.

    Raises:
        ConfigError: The models have no module that the preset could tap.
    """
    preset = preset or default_preset(student)
    srd = dict(type='SRDLoss', alpha=4.0)
    if preset == 'detection':
        path = _shared_path(preset, student, teacher, ('neck', 'backbone'))
        return [LossConfig(path, srd, path, path, weight=4.0)]
    # Classification: the last feature, pooled. The logits' KL term of the published recipe has to be
    # written out until there is a loss for it.
    path = _shared_path(preset, student, teacher, ('backbone',))
    return [LossConfig('feature', srd, path, path, weight=2.0, levels=[(-1, -1)], pool=True)]


def _shared_path(preset: str, student: nn.Module, teacher: nn.Module, candidates: tuple[str, ...]) -> str:
    for path in candidates:
        if all(isinstance(getattr(model, path, None), nn.Module) for model in (student, teacher)):
            return path
    raise ConfigError.at(f'{ROOT}.preset', preset, f'taps one of {", ".join(candidates)}, and student '
                         f'{type(student).__name__} and teacher {type(teacher).__name__} do not both have one; '
                         f'write `{ROOT}.losses`')
