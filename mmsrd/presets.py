"""Losses chosen for a model where the config names none."""
from __future__ import annotations

import logging
import math

from mmengine.logging import print_log
from torch import nn

from .config_checks import ROOT
from .config_losses import LossConfig
from .errors import ConfigError, TapError
from .last_layers import last_feature, last_linear
from .matching import stride_of
from .probe import dry_run, trained_part

_DETECTOR_HEADS = ('bbox_head', 'rpn_head', 'roi_head', 'mask_head', 'panoptic_head', 'decoder')
KEY = f'{ROOT}.preset'
_SRD = dict(type='SRDLoss', alpha=4.0)


def fitting_preset(model: nn.Module) -> str:
    """``'classification'`` for a model with one head and none of a detector, else ``'detection'``."""
    inner = trained_part(model)[1]
    is_detector = any(hasattr(inner, name) for name in _DETECTOR_HEADS)
    is_wrapper = not hasattr(inner, 'backbone') and isinstance(getattr(inner, 'model', None), nn.Module)
    return 'classification' if (hasattr(inner, 'head') or is_wrapper) and not is_detector else 'detection'


def preset_losses(preset: str | None, student: nn.Module, teacher: nn.Module, source: str = '') -> list[LossConfig]:
    """Losses of ``preset``, or of the one that fits the student; a dry run of both models finds the levels.

    Detection: SRD on the levels of the neck that both have, by stride; of the backbone
    where there is no neck. Classification: the published recipe for ImageNet, 2 × SRD on
    the pooled last feature and KL on the logits.

    Args:
        preset: Name of the preset, or None.
        student: The student.
        teacher: The teacher.
        source: Name of the teacher where there are several; starts the names of the losses.

    Raises:
        ConfigError: The preset is not for such models, or they have no module that it could tap.
    """
    preset = preset or fitting_preset(student)
    for side, model in (('student', student), ('teacher', teacher)):
        if fitting_preset(model) != preset:
            raise ConfigError.at(KEY, preset, f'the {side} {type(model).__name__} is made for '
                                 f'{fitting_preset(model)}; write `{ROOT}.losses` for such a pair')
    return (_detection if preset == 'detection' else _classification)(student, teacher, source)


def _detection(student: nn.Module, teacher: nn.Module, source: str) -> list[LossConfig]:
    paths, levels = [], []
    for side, model in (('student', student), ('teacher', teacher)):
        found = _levels_by_octave(model)
        if found is None:
            raise ConfigError.at(KEY, 'detection', f'taps neck or backbone, and the {side} '
                                 f'{type(model).__name__} has none that gives feature maps{_reason(model)}; write '
                                 f'`{ROOT}.losses`')
        paths.append(found[0])
        levels.append(found[1])
    shared = [octave for octave in levels[0] if octave in levels[1]]
    # Where no stride is shared the two nearest levels meet, resized.
    pairs = [(octave, octave) for octave in shared] or \
        [min(((a, b) for a in levels[0] for b in levels[1]), key=lambda pair: abs(pair[0] - pair[1]))]
    name = paths[0].rpartition('.')[2]
    return [LossConfig(_name(source, name), _SRD, paths[0], paths[1], weight=0.25, source=source,
                       levels=[(levels[0][a], levels[1][b]) for a, b in pairs], tokens='patch')]


def _reason(model: nn.Module) -> str:
    """Why a dry run of the backbone gave nothing, in brackets."""
    prefix, inner = trained_part(model)
    if isinstance(getattr(inner, 'backbone', None), nn.Module):
        try:
            dry_run(model, f'{prefix}backbone', KEY)
        except TapError as e:
            return f' ({e})'
    return ''


def _levels_by_octave(model: nn.Module) -> tuple[str, dict[int, int]] | None:
    """Path of neck or backbone, and its levels by log2 of their stride; of several of one stride the last."""
    prefix, inner = trained_part(model)
    for name in ('neck', 'backbone'):
        if isinstance(getattr(inner, name, None), nn.Module):
            try:
                result = dry_run(model, prefix + name, KEY)
            except TapError:
                continue
            strides = [stride_of(shape, result.image, 'patch') for shape in result.shapes[prefix + name]]
            octaves = {round(math.log2(stride)): i for i, stride in enumerate(strides) if stride}
            if octaves:
                return prefix + name, octaves
    return None


def _classification(student: nn.Module, teacher: nn.Module, source: str) -> list[LossConfig]:
    logits = [last_linear(model, KEY) for model in (student, teacher)]
    features = []
    for side, model, linear in zip(('student', 'teacher'), (student, teacher), logits, strict=True):
        path = last_feature(model, linear, KEY)
        if path is None:
            raise ConfigError.at(KEY, 'classification', f'taps the backbone or what feeds the last linear layer, and '
                                 f'the {side} {type(model).__name__} has neither; write `{ROOT}.losses`')
        features.append(path)
    losses = []
    if dry_run(student, features[0], KEY, gradients=True).trains:
        losses.append(LossConfig(_name(source, 'feature'), _SRD, features[0], features[1], weight=2.0,
                                 levels=[(-1, -1)], pool=True, tokens='patch', source=source))
    else:  # a linear probe
        _warn(f'the feature is not distilled, because the student is frozen up to {features[0]!r}')
    classes = [None if path is None else model.get_submodule(path).out_features
               for path, model in zip(logits, (student, teacher), strict=True)]
    several = any('MultiLabel' in kind.__name__ for model in (student, teacher)
                  for kind in type(getattr(model, 'head', None)).__mro__)
    if logits[0] is not None and logits[1] is not None and classes[0] == classes[1] and not several:
        losses.append(LossConfig(_name(source, 'logits'), dict(type='KLDivLoss'), logits[0], logits[1],
                                 projector=None, compares_logits=True, source=source))
    else:
        reason = 'a head gives several labels to an image, so its logits are no distribution' if several else \
            f'the student has {classes[0]} classes and the teacher {classes[1]}' if None not in classes else \
            f'the {"student" if classes[0] is None else "teacher"} has no linear layer that makes them'
        _warn(f'the logits are not distilled, because {reason}')
    if not losses:
        raise ConfigError.at(KEY, 'classification', f'finds nothing to distil: the student is frozen up '
                             f'to {features[0]!r}, and the logits cannot be compared; write `{ROOT}.losses`')
    return losses


def _warn(message: str) -> None:
    print_log(f'Preset classification: {message}', logger='current', level=logging.WARNING)


def _name(source: str, name: str) -> str:
    return f'{source}_{name}' if source else name
