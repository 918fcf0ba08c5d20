"""Presets that compare feature maps by stride: detectors, rotated ones too, and keypoint estimators."""
from __future__ import annotations

from typing import Any

from torch import nn

from ...config.checks import ROOT
from ...errors import ConfigError, TapError
from ...recorders import DryRun
from ..level_matching import pairs_by_stride, stride_of
from .base_preset import KEY, SRD, Preset, parts_of


class DetectionPreset(Preset):
    """SRD on the levels of the neck that both have, by stride; of the backbone where there is no neck."""

    name = 'detection'
    init_student = True

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Neck and backbone, those that there are."""
        return dict.fromkeys(parts_of(model, ('neck', 'backbone')), KEY)

    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """See :class:`Preset`."""
        (path, strides), (other_path, other) = (_strides(side, run, self.name) for side, run in (
            ('student', student), ('teacher', teacher)))
        pairs, trained = pairs_by_stride(strides, other), [x.requires_grad for x in student.levels(path, KEY)]
        frozen = [own for own, _ in pairs if not trained[own]]
        if len(frozen) == len(pairs):
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil: the student is frozen up to {path!r}; '
                                 f'write `{ROOT}.losses`')
        if frozen:
            self.warn(f'level {", ".join(map(str, frozen))} of {path!r} is left out, because it comes from frozen '
                      'layers')
        return {path.rpartition('.')[2]: dict(
            SRD, student=path, teacher=other_path, balance=1.0, levels=[pair for pair in pairs if trained[pair[0]]])}


class KeypointPreset(DetectionPreset):
    """The same for keypoint estimators; heads are not initialised from the teacher. Not measured."""

    name = 'keypoints'
    init_student = False


def _strides(side: str, run: DryRun, preset: str) -> tuple[str, list[float | None]]:
    """Path of neck or backbone, and the strides of its levels."""
    reason = ''
    for path in parts_of(run.model, ('neck', 'backbone')):
        try:
            strides = [stride_of(shape, run.image, 'patch') for shape in run.shapes(path, KEY)]
        except TapError as e:
            reason = f' ({e})'
            continue
        if any(strides):
            return path, strides
    raise ConfigError.at(KEY, preset, f'taps neck or backbone, and the {side} {type(run.model).__name__} has none '
                         f'that gives feature maps{reason}; write `{ROOT}.losses`')
