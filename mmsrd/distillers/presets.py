"""Presets: losses chosen for a model where the config names none."""
from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Iterable

from mmengine.logging import print_log
from torch import nn

from ..config import LossConfig
from ..config.checks import ROOT
from ..errors import ConfigError, TapError
from ..recorders import DryRun, trained_part
from ..registry import PRESETS
from ..teachers import Teacher
from .classifier_layers import last_feature, last_linear, prediction
from .level_matching import pairs_by_stride, stride_of

KEY = f'{ROOT}.preset'
_SRD: dict[str, Any] = dict(type='SRDLoss', alpha=4.0)
_DETECTOR_HEADS = ('bbox_head', 'rpn_head', 'roi_head', 'mask_head', 'panoptic_head', 'decoder')
_CHANGING = ('DDRNet', 'PIDNet')
"""Backbones with maps for auxiliary losses, in training alone."""


class Preset(ABC):
    """Chooses losses from what dry runs of student and teacher have shown.

    Derive from it and register the class in :data:`mmsrd.registry.PRESETS` under the name that ``distill.preset`` is to
    have. Of those that fit a student, the one that was registered last is its default.

    Attributes:
        name: As the config names it.
        needs_everything: Whether the dry runs have to look at all modules.
        init_student: Whether the student starts with the layers of neck and heads that it has in common with the
            teacher, where the config does not say.
        teachers_first: Whether teachers start with the student's forward pass, because little of it is left after the
            last feature.
    """

    name: ClassVar[str]
    needs_everything: ClassVar[bool] = False
    init_student: ClassVar[bool] = False
    teachers_first: ClassVar[bool] = False

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """Return whether a model is made for the task of this preset; a preset without a task is chosen by name."""
        return False

    @abstractmethod
    def paths(self, model: nn.Module) -> dict[str, str]:
        """Return the modules of ``model`` that a dry run should reach → config key, for messages."""

    @abstractmethod
    def losses(self, student: DryRun, teacher: DryRun, teacher_name: str = '') -> list[LossConfig]:
        """Return the chosen losses.

        Args:
            student: Dry run of the student.
            teacher: Dry run of the teacher.
            teacher_name: Name of the teacher where there are several; starts the names of the losses.

        Raises:
            ConfigError: The models have no module that could be compared.
        """

    def loss(self, name: str, teacher_name: str, module: dict[str, Any], **options: Any) -> LossConfig:
        """Return one loss of this preset.

        Args:
            name: Name of the loss.
            teacher_name: Name of the teacher; empty for a single one.
            module: ``type`` and arguments of the loss.
            options: Other fields of :class:`mmsrd.config.LossConfig`.
        """
        prefix = f'{teacher_name}_' if teacher_name else ''
        return LossConfig(prefix + name, module, teacher_name=teacher_name, preset=self.name, **options)

    def warn(self, message: str) -> None:
        """Say what is left out."""
        print_log(f'Preset {self.name}: {message}', logger='current', level=logging.WARNING)


def preset_for(model: nn.Module) -> type[Preset]:
    """Return the preset that fits the task of a model; that for detectors where nothing says what it is for."""
    PRESETS.import_from_location()
    known: list[type[Preset]] = list(PRESETS.module_dict.values())
    return next(preset for preset in reversed(known) if preset.fits(model))


def check_preset(name: str) -> type[Preset]:
    """Return the preset called ``name``.

    Raises:
        ConfigError: There is none.
    """
    PRESETS.import_from_location()
    found: type[Preset] | None = PRESETS.module_dict.get(name)
    if found is None:
        raise ConfigError.at(KEY, name, f'must be one of {", ".join(map(repr, PRESETS.module_dict))}')
    return found


def choose_preset(name: str | None, student: nn.Module, teachers: Iterable[Teacher]) -> Preset:
    """Return the preset called ``name``, or the one that fits the student.

    Args:
        name: ``distill.preset``; None for the one that fits.
        student: The student.
        teachers: The teachers.

    Raises:
        ConfigError: There is no such preset, or a model is made for another task.
    """
    preset = preset_for(student) if name is None else check_preset(name)
    models = [('student', student), *(('teacher', teacher.model) for teacher in teachers if not teacher.any_task)]
    for side, model in models:
        by_task = preset.fits.__func__ is not Preset.fits.__func__  # type: ignore[attr-defined]
        if by_task and preset_for(model) is not preset:
            raise ConfigError.at(KEY, preset.name, f'the {side} {type(model).__name__} is made for '
                                 f'{preset_for(model).name}; write `{ROOT}.losses` for such a pair')
    return preset()


def parts_of(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return the paths of the parts of these names that the trained model has."""
    prefix, inner = trained_part(model)
    return [prefix + name for name in names if isinstance(getattr(inner, name, None), nn.Module)]


@PRESETS.register_module(name='detection')
class DetectionPreset(Preset):
    """SRD on the levels of the neck that both have, by stride; of the backbone where there is no neck."""

    name = 'detection'
    init_student = True

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """See :class:`Preset`; anything that no other preset knows."""
        return True

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Return neck and backbone, those that there are."""
        return dict.fromkeys(parts_of(model, ('neck', 'backbone')), KEY)

    def losses(self, student: DryRun, teacher: DryRun, teacher_name: str = '') -> list[LossConfig]:
        """See :class:`Preset`."""
        (path, strides), (other_path, other) = (self._strides(side, run) for side, run in (
            ('student', student), ('teacher', teacher)))
        pairs, trained = pairs_by_stride(strides, other), [x.requires_grad for x in student.levels(path, KEY)]
        frozen = [own for own, _ in pairs if not trained[own]]
        if len(frozen) == len(pairs):
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil: the student is frozen up to {path!r}; '
                                 f'write `{ROOT}.losses`')
        if frozen:
            self.warn(f'level {", ".join(map(str, frozen))} of {path!r} is left out, because it comes from frozen '
                      'layers')
        return [self.loss(path.rpartition('.')[2], teacher_name, _SRD, student=path, teacher=other_path, balance=1.0,
                          tokens='patch', levels=[pair for pair in pairs if trained[pair[0]]])]

    def _strides(self, side: str, run: DryRun) -> tuple[str, list[float | None]]:
        """Return the path of neck or backbone, and the strides of its levels."""
        reason = ''
        for path in parts_of(run.model, ('neck', 'backbone')):
            try:
                strides = [stride_of(shape, run.image, 'patch') for shape in run.shapes(path, KEY)]
            except TapError as e:
                reason = f' ({e})'
                continue
            if any(strides):
                if reason:
                    self.warn(f'{path!r} of the {side} is compared instead of its neck, which did not run in the dry '
                              f'run{reason}')
                return path, strides
        raise ConfigError.at(KEY, self.name, f'taps neck or backbone, and the {side} {type(run.model).__name__} has '
                             f'none that gives feature maps{reason}; write `{ROOT}.losses`')


@PRESETS.register_module(name='classification')
class ClassificationPreset(Preset):
    """The published recipe for ImageNet: 2 × SRD on the pooled last feature and KL on the logits."""

    name = 'classification'
    needs_everything = True
    teachers_first = True

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """See :class:`Preset`."""
        inner = trained_part(model)[1]
        is_wrapper = not hasattr(inner, 'backbone') and isinstance(getattr(inner, 'model', None), nn.Module)
        return (hasattr(inner, 'head') or is_wrapper) and not any(hasattr(inner, name) for name in _DETECTOR_HEADS)

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Return neck, backbone and the last linear layer, those that there are."""
        linear = last_linear(model)
        return dict.fromkeys([*parts_of(model, ('neck', 'backbone')), *([linear] if linear else [])], KEY)

    def losses(self, student: DryRun, teacher: DryRun, teacher_name: str = '') -> list[LossConfig]:
        """See :class:`Preset`."""
        features = []
        for side, run in (('student', student), ('teacher', teacher)):
            path = last_feature(run)
            if path is None:
                raise ConfigError.at(KEY, self.name, f'taps the backbone or the input of the last linear layer; the '
                                     f'{side} {type(run.model).__name__} has neither; write `{ROOT}.losses`')
            features.append(path)
        losses = []
        if student.is_trained(features[0], KEY):
            losses.append(self.loss('feature', teacher_name, _SRD, student=features[0], teacher=features[1], weight=2.0,
                                    tokens='patch', levels=[(-1, -1)], pool=True))
        else:  # a linear probe
            self.warn(f'the feature is not distilled, because the student is frozen up to {features[0]!r}')
        # A student with several classifiers learns from the teacher by the last (DeiT); a teacher predicts with all.
        logits = last_linear(student.model, student), prediction(teacher)
        reason = _why_not_logits((student, teacher), logits)
        if reason is None:
            losses.append(self.loss('logits', teacher_name, dict(type='KLDivLoss'), student=logits[0],
                                    teacher=logits[1]))
        else:
            self.warn(f'the logits are not distilled, because {reason}')
        if not losses:
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil: the student is frozen up to '
                                 f'{features[0]!r}, and the logits cannot be compared; write `{ROOT}.losses`')
        return losses


_NO_LOGITS = {
    'MultiLabel': 'a head is multi-label, so its logits are not one distribution over the classes',
    'MultiTask': 'a head has several tasks, and which of them are the same is not known',
    'ArcFace': 'a head is ArcFace, whose layer makes cosines, which it scales afterwards'}
"""Part of the name of a head → why its logits cannot be compared."""


def _why_not_logits(runs: tuple[DryRun, DryRun], paths: tuple[str | None, str | None]) -> str | None:
    """Return why the logits cannot be compared; None where they can."""
    kinds = {kind.__name__ for run in runs for kind in type(getattr(run.model, 'head', None)).__mro__}
    for part, reason in _NO_LOGITS.items():
        if any(part in name for name in kinds):
            return reason
    classes = []
    for side, run, path in zip(('student', 'teacher'), runs, paths):
        if path is None:
            return f'the {side} has no single layer that makes them'
        if not run.num_calls(path):
            return f'the {side} makes them for its loss only'
        classes.append(run.shapes(path, KEY)[-1][-1])
    return None if classes[0] == classes[1] else \
        f'the student has {classes[0]} classes and the teacher {classes[1]}'


@PRESETS.register_module(name='segmentation')
class SegmentationPreset(DetectionPreset):
    """SRD on the levels of neck or backbone that both have, by stride, and KL of the classes at each position.

    Both are balanced. The logits are those of the last decode head, where it has a layer that makes them
    (``conv_seg``) and both models have the same classes. Nothing was measured with it.
    """

    name = 'segmentation'
    init_student = False

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """See :class:`Preset`."""
        return hasattr(trained_part(model)[1], 'decode_head')

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Return neck, backbone, and the layer of the logits, those that there are."""
        logits = _decode_logits(model)
        return {**super().paths(model), **({logits: KEY} if logits else {})}

    def losses(self, student: DryRun, teacher: DryRun, teacher_name: str = '') -> list[LossConfig]:
        """See :class:`Preset`."""
        losses = super().losses(student, teacher, teacher_name)
        backbone = type(trained_part(student.model)[1].backbone).__name__
        if backbone in _CHANGING:
            losses.clear()
            self.warn(f'the features are not distilled, because {backbone} returns additional maps in training')
        runs = dict(student=student, teacher=teacher)
        found = {side: _decode_logits(run.model) for side, run in runs.items()}
        missing = [side for side, path in found.items() if path is None or not runs[side].num_calls(path)]
        classes = [run.shapes(path, KEY)[-1][1] for run, path in zip(runs.values(), found.values())
                   if path is not None and not missing]
        if missing:
            self.warn(f'the logits are not distilled, because the {" and the ".join(missing)} has no layer that makes '
                      'them for each position')
        elif len(set(classes)) > 1 or classes[0] == 1:
            self.warn('the logits are not distilled, because '
                      + ('KL divergence needs more than one class' if classes[0] == classes[1] else
                         f'the student has {classes[0]} classes and the teacher {classes[1]}'))
        else:
            losses.append(self.loss('logits', teacher_name, dict(type='KLDivLoss'), balance=1.0, **found))
        if not losses:
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil; write `{ROOT}.losses`')
        return losses


def _decode_logits(model: nn.Module) -> str | None:
    """Return the path of the layer that makes the logits of the last decode head."""
    prefix, inner = trained_part(model)
    head = getattr(inner, 'decode_head', None)
    path = f'{prefix}decode_head'
    if isinstance(head, nn.ModuleList):  # a cascade
        path, head = f'{path}.{len(head) - 1}', head[-1]
    return f'{path}.conv_seg' if isinstance(getattr(head, 'conv_seg', None), nn.Module) else None


@PRESETS.register_module(name='keypoints')
class KeypointPreset(DetectionPreset):
    """Preset of detectors for keypoint estimators; heads are not initialised from the teacher. Not measured."""

    name = 'keypoints'
    init_student = False

    @classmethod
    def fits(cls, model: nn.Module) -> bool:
        """See :class:`Preset`."""
        return any(kind.__name__ == 'BasePoseEstimator' for kind in type(trained_part(model)[1]).__mro__)
