"""``ClassificationPreset``: the published recipe for classifiers."""
from __future__ import annotations

from typing import Any

from torch import nn

from ...config.checks import ROOT
from ...errors import ConfigError
from ...recorders import DryRun
from ..classifier_layers import last_feature, last_linear
from .base_preset import KEY, SRD, Preset, parts_of


class ClassificationPreset(Preset):
    """The published recipe for ImageNet: 2 × SRD on the pooled last feature and KL on the logits."""

    name = 'classification'
    needs_everything = True

    def paths(self, model: nn.Module) -> dict[str, str]:
        """Neck, backbone and the last linear layer, those that there are."""
        linear = last_linear(model)
        return dict.fromkeys([*parts_of(model, ('neck', 'backbone')), *([linear] if linear else [])], KEY)

    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """See :class:`Preset`."""
        features = []
        for side, run in (('student', student), ('teacher', teacher)):
            path = last_feature(run)
            if path is None:
                raise ConfigError.at(KEY, self.name, f'taps the backbone or the input of the last linear layer; the '
                                     f'{side} {type(run.model).__name__} has neither; write `{ROOT}.losses`')
            features.append(path)
        losses: dict[str, dict[str, Any]] = {}
        if student.is_trained(features[0], KEY):
            losses['feature'] = dict(SRD, student=features[0], teacher=features[1], weight=2.0, levels=[(-1, -1)],
                                     pool=True)
        else:  # a linear probe
            self.warn(f'the feature is not distilled, because the student is frozen up to {features[0]!r}')
        logits = last_linear(student.model, student), last_linear(teacher.model, teacher)
        reason = _why_not_logits((student.model, teacher.model), logits)
        if reason is None:
            losses['logits'] = dict(type='KLDivLoss', student=logits[0], teacher=logits[1])
        else:
            self.warn(f'the logits are not distilled, because {reason}')
        if not losses:
            raise ConfigError.at(KEY, self.name, f'finds nothing to distil: the student is frozen up to '
                                 f'{features[0]!r}, and the logits cannot be compared; write `{ROOT}.losses`')
        return losses


def _why_not_logits(models: tuple[nn.Module, nn.Module], paths: tuple[str | None, str | None]) -> str | None:
    """Why the logits cannot be compared; None where they can."""
    kinds = {kind.__name__ for model in models for kind in type(getattr(model, 'head', None)).__mro__}
    if any('MultiLabel' in name for name in kinds):
        return 'a head is multi-label, so its logits are not one distribution over the classes'
    if any('MultiTask' in name for name in kinds):
        return 'a head has several tasks, and which of them are the same is not known'
    classes = []
    for side, model, path in zip(('student', 'teacher'), models, paths):
        if path is None:
            return f'the {side} has no linear layer that makes them'
        classes.append(model.get_submodule(path).out_features)
    return None if classes[0] == classes[1] else \
        f'the student has {classes[0]} classes and the teacher {classes[1]}'
