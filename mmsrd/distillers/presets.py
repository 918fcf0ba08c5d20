"""Losses chosen for a model where the config names none."""
from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, Iterable

from mmengine.logging import print_log
from torch import nn

from ..config import LossConfig
from ..config.checks import ROOT
from ..config.loss_config import parse_loss
from ..errors import ConfigError, TapError
from ..recorders import DryRun, trained_part
from ..teachers.libraries import LibraryModel
from .classifier_layers import last_feature, last_linear
from .level_matching import pairs_by_stride, stride_of

_DETECTOR_HEADS = ('bbox_head', 'rpn_head', 'roi_head', 'mask_head', 'panoptic_head', 'decoder')
KEY = f'{ROOT}.preset'
_SRD: dict[str, Any] = dict(type='SRDLoss', alpha=4.0, tokens='patch')


class Preset(ABC):
    """Chooses losses from what dry runs of student and teacher have shown.

    Attributes:
        name: As the config names it.
        needs_everything: Whether the dry runs have to look at all modules.
        init_student: Whether the student starts with the layers of neck and heads that it has in common with the
            teacher, where the config does not say.
    """

    name: str
    needs_everything = False
    init_student = False

    @abstractmethod
    def paths(self, model: nn.Module) -> dict[str, str]:
        """Modules of ``model`` that a dry run should reach → config key, for messages."""

    @abstractmethod
    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """The chosen losses by name, as a config would have them.

        Raises:
            ConfigError: The models have no module that could be compared.
        """

    def losses(self, student: DryRun, teacher: DryRun, teacher_name: str = '') -> list[LossConfig]:
        """The chosen losses.

        Args:
            student: Dry run of the student.
            teacher: Dry run of the teacher.
            teacher_name: Name of the teacher where there are several; starts the names of the losses.

        Raises:
            ConfigError: The models have no module that could be compared.
        """
        prefix = f'{teacher_name}_' if teacher_name else ''
        return [parse_loss(prefix + name, block, [teacher_name])
                for name, block in self.blocks(student, teacher).items()]


class DetectionPreset(Preset):
    """SRD on the levels of the neck that both have, by stride; of the backbone where there is no neck."""

    name = 'detection'
    init_student = True

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Neck and backbone, those that there are."""
        return dict.fromkeys(_parts(model, ('neck', 'backbone')), KEY)

    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """See :class:`Preset`."""
        (path, strides), (other_path, other) = (_strides(side, run) for side, run in (
            ('student', student), ('teacher', teacher)))
        return {path.rpartition('.')[2]: dict(
            _SRD, student=path, teacher=other_path, balance=1.0, levels=pairs_by_stride(strides, other))}


class ClassificationPreset(Preset):
    """The published recipe for ImageNet: 2 × SRD on the pooled last feature and KL on the logits."""

    name = 'classification'
    needs_everything = True

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Neck, backbone and the last linear layer, those that there are."""
        linear = last_linear(model)
        return dict.fromkeys([*_parts(model, ('neck', 'backbone')), *([linear] if linear else [])], KEY)

    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """See :class:`Preset`."""
        features = []
        for side, run in (('student', student), ('teacher', teacher)):
            path = last_feature(run)
            if path is None:
                raise ConfigError.at(KEY, self.name, f'taps the backbone or what feeds the last linear layer, and the '
                                     f'{side} {type(run.model).__name__} has neither; write `{ROOT}.losses`')
            features.append(path)
        losses: dict[str, dict[str, Any]] = {}
        if student.is_trained(features[0], KEY):
            losses['feature'] = dict(_SRD, student=features[0], teacher=features[1], weight=2.0, levels=[(-1, -1)],
                                     pool=True)
        else:  # a linear probe
            self._warn(f'the feature is not distilled, because the student is frozen up to {features[0]!r}')
        logits = last_linear(student.model, student), last_linear(teacher.model, teacher)
        reason = _why_not_logits((student.model, teacher.model), logits)
        if reason is None:
            losses['logits'] = dict(type='KLDivLoss', student=logits[0], teacher=logits[1])
        else:
            self._warn(f'the logits are not distilled, because {reason}')
        if not losses:
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil: the student is frozen up to '
                                 f'{features[0]!r}, and the logits cannot be compared; write `{ROOT}.losses`')
        return losses

    def _warn(self, message: str) -> None:
        print_log(f'Preset {self.name}: {message}', logger='current', level=logging.WARNING)


def choose_preset(name: str | None, student: nn.Module, teachers: Iterable[nn.Module]) -> Preset:
    """The preset called ``name``, or the one that fits the student.

    Raises:
        ConfigError: A model is made for another task.
    """
    name = name or fitting_preset(student)
    for side, model in (('student', student), *(('teacher', teacher) for teacher in teachers)):
        if fitting_preset(model) != name and not isinstance(model, LibraryModel):
            raise ConfigError.at(KEY, name, f'the {side} {type(model).__name__} is made for '
                                 f'{fitting_preset(model)}; write `{ROOT}.losses` for such a pair')
    return DetectionPreset() if name == 'detection' else ClassificationPreset()


def fitting_preset(model: nn.Module) -> str:
    """``'classification'`` for a model with one head and none of a detector, else ``'detection'``."""
    inner = trained_part(model)[1]
    is_detector = any(hasattr(inner, name) for name in _DETECTOR_HEADS)
    is_wrapper = not hasattr(inner, 'backbone') and isinstance(getattr(inner, 'model', None), nn.Module)
    return 'classification' if (hasattr(inner, 'head') or is_wrapper) and not is_detector else 'detection'


def _parts(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Paths of the parts of these names that the trained model has."""
    prefix, inner = trained_part(model)
    return [prefix + name for name in names if isinstance(getattr(inner, name, None), nn.Module)]


def _strides(side: str, run: DryRun) -> tuple[str, list[float | None]]:
    """Path of neck or backbone, and the strides of its levels."""
    reason = ''
    for path in _parts(run.model, ('neck', 'backbone')):
        try:
            strides = [stride_of(shape, run.image, 'patch') for shape in run.shapes(path, KEY)]
        except TapError as e:
            reason = f' ({e})'
            continue
        if any(strides):
            return path, strides
    raise ConfigError.at(KEY, 'detection', f'taps neck or backbone, and the {side} {type(run.model).__name__} has none '
                         f'that gives feature maps{reason}; write `{ROOT}.losses`')


def _why_not_logits(models: tuple[nn.Module, nn.Module], paths: tuple[str | None, str | None]) -> str | None:
    """Why the logits cannot be compared; None where they can."""
    if any('MultiLabel' in kind.__name__ for model in models for kind in type(getattr(model, 'head', None)).__mro__):
        return 'a head gives several labels to an image, so its logits are no distribution'
    classes = []
    for side, model, path in zip(('student', 'teacher'), models, paths):
        if path is None:
            return f'the {side} has no linear layer that makes them'
        classes.append(model.get_submodule(path).out_features)
    return None if classes[0] == classes[1] else \
        f'the student has {classes[0]} classes and the teacher {classes[1]}'
