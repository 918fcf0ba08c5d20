"""Which preset fits a model."""
from __future__ import annotations

from typing import Iterable

from torch import nn

from ...config.checks import ROOT
from ...errors import ConfigError
from ...recorders import trained_part
from ...teachers.libraries import LibraryModel
from .base_preset import KEY, Preset
from .classification import ClassificationPreset
from .detection import DetectionPreset, KeypointPreset
from .segmentation import SegmentationPreset

_PRESETS: dict[str, type[Preset]] = {preset.name: preset for preset in (
    DetectionPreset, ClassificationPreset, SegmentationPreset, KeypointPreset)}
_DETECTOR_HEADS = ('bbox_head', 'rpn_head', 'roi_head', 'mask_head', 'panoptic_head', 'decoder')


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
    return _PRESETS[name]()


def fitting_preset(model: nn.Module) -> str:
    """Name of the preset for a model's task; ``'detection'`` where nothing says what it is for."""
    inner = trained_part(model)[1]
    # Its head goes by the name of a classifier's.
    if any(kind.__name__ == 'BasePoseEstimator' for kind in type(inner).__mro__):
        return KeypointPreset.name
    if hasattr(inner, 'decode_head'):
        return SegmentationPreset.name
    is_detector = any(hasattr(inner, name) for name in _DETECTOR_HEADS)
    is_wrapper = not hasattr(inner, 'backbone') and isinstance(getattr(inner, 'model', None), nn.Module)
    has_head = hasattr(inner, 'head') or is_wrapper
    return ClassificationPreset.name if has_head and not is_detector else DetectionPreset.name
