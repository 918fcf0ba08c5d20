"""Losses chosen for a model where the config names none."""
from __future__ import annotations

from torch import nn

from .config import ROOT, LossConfig
from .errors import ConfigError

_DETECTOR_HEADS = ('bbox_head', 'rpn_head', 'roi_head', 'mask_head')


def fitting_preset(model: nn.Module) -> str:
    """``'classification'`` for a model with one head and none of a detector, else ``'detection'``."""
    is_detector = any(hasattr(model, name) for name in _DETECTOR_HEADS)
    return 'classification' if hasattr(model, 'head') and not is_detector else 'detection'


def preset_losses(preset: str | None, student: nn.Module, teacher: nn.Module) -> list[LossConfig]:
    """Losses of ``preset``, or of the one that fits the student.

    Detection: SRD on all levels of the neck, or of the backbone where there is no
    neck. Classification: the published recipe for ImageNet, 2 × SRD on the pooled
    last feature and KL on the logits.

    Raises:
        ConfigError: The preset is not for such models, or they have no module that it could tap.
    """
    preset = preset or fitting_preset(student)
    for side, model in (('student', student), ('teacher', teacher)):
        if fitting_preset(model) != preset:
            raise ConfigError.at(f'{ROOT}.preset', preset, f'the {side} {type(model).__name__} is made for '
                                 f'{fitting_preset(model)}; write `{ROOT}.losses` for such a pair')
    srd = dict(type='SRDLoss', alpha=4.0)
    if preset == 'detection':
        path = next((p for p in ('neck', 'backbone') if _has(student, p) and _has(teacher, p)), None)
        if path is None:
            raise ConfigError.at(f'{ROOT}.preset', preset, f'taps neck or backbone, and student '
                                 f'{type(student).__name__} and teacher {type(teacher).__name__} do not both have '
                                 f'one; write `{ROOT}.losses`')
        return [LossConfig(path, srd, path, path, weight=4.0)]
    return [
        LossConfig('feature', srd, 'backbone', 'backbone', weight=2.0, levels=[(-1, -1)], pool=True),
        LossConfig('logits', dict(type='KLDivLoss'), _last_linear(student, 'student'),
                   _last_linear(teacher, 'teacher'), projector=None, compares_logits=True)]


def _has(model: nn.Module, path: str) -> bool:
    return isinstance(getattr(model, path, None), nn.Module)


def _last_linear(model: nn.Module, side: str) -> str:
    """Path of the last linear layer of a classifier's head: the one that makes the logits."""
    head = model.get_submodule('head')
    linear = [name for name, module in head.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError.at(f'{ROOT}.preset', 'classification', f'the head of the {side}, {type(head).__name__}, has '
                             f'no linear layer whose output could be taken for logits; write `{ROOT}.losses`')
    return f'head.{linear[-1]}'.rstrip('.')
