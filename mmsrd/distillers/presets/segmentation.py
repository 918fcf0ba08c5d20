"""``SegmentationPreset``: features and dense logits of segmentors."""
from __future__ import annotations

from typing import Any

from torch import nn

from ...config.checks import ROOT
from ...errors import ConfigError
from ...recorders import DryRun, trained_part
from .base_preset import KEY
from .detection import DetectionPreset

_CHANGING = ('DDRNet', 'PIDNet')
"""Backbones with maps for auxiliary losses, in training alone."""


class SegmentationPreset(DetectionPreset):
    """SRD on the levels of neck or backbone that both have, by stride, and KL of the classes at each position.

    Both are balanced. The logits are those of the last decode head, where it has a layer that makes them
    (``conv_seg``) and both models have the same classes. Nothing was measured with it.
    """

    name = 'segmentation'
    init_student = False

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Neck, backbone, and the layer of the logits, those that there are."""
        logits = _logits(model)
        return {**super().paths(model), **({logits: KEY} if logits else {})}

    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """See :class:`Preset`."""
        losses = super().blocks(student, teacher)
        backbone = type(trained_part(student.model)[1].backbone).__name__
        if backbone in _CHANGING:
            losses.clear()
            self.warn(f'the features are not distilled, because {backbone} returns additional maps in training')
        runs = dict(student=student, teacher=teacher)
        found = {side: _logits(run.model) for side, run in runs.items()}
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
            losses['logits'] = dict(type='KLDivLoss', balance=1.0, **found)
        if not losses:
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil; write `{ROOT}.losses`')
        return losses


def _logits(model: nn.Module) -> str | None:
    """Path of the layer that makes the logits of the last decode head."""
    prefix, inner = trained_part(model)
    head = getattr(inner, 'decode_head', None)
    path = f'{prefix}decode_head'
    if isinstance(head, nn.ModuleList):  # a cascade
        path, head = f'{path}.{len(head) - 1}', head[-1]
    return f'{path}.conv_seg' if isinstance(getattr(head, 'conv_seg', None), nn.Module) else None
