"""Layers of a teacher that a student starts with."""
from __future__ import annotations

from typing import Any, Mapping

import torch
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..recorders import trained_part

_OWN = ('backbone', 'data_preprocessor')
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


class StudentInit:
    """The layers of neck and heads that are alike in a student and its teacher, and the teacher's weights of them.

    A part of the detector (a child other than the backbone) counts where both have it, of one class and with the same
    names of parameters and buffers, and where the student does not read it from a file (``init_cfg`` of type
    ``'Pretrained'``). Of such a part the student takes each layer whose tensors all have the teacher's shapes, and a
    normalisation with the layer before it. What differs stays the student's own: lateral convolutions as wide as the
    backbone, a classifier of other classes.

    *Focal and Global Knowledge Distillation for Detectors* (Yang et al., CVPR 2022) calls this the inheriting
    strategy, and took it from *Instance-Conditional Knowledge Distillation* (Kang et al., NeurIPS 2021).

    Args:
        student: The student, without a distiller.
        teacher: The teacher's model, before anything in it is fused.

    Attributes:
        parts: Name of each part that gives layers → how many, and how many it has.

    Example:
        >>> import torch
        >>> from mmsrd.teachers import StudentInit
        >>> def detector(width):
        ...     return torch.nn.ModuleDict(dict(backbone=torch.nn.Conv2d(3, width, 1),
        ...                                     neck=torch.nn.Conv2d(width, 8, 1), bbox_head=torch.nn.Conv2d(8, 4, 1)))
        >>> student, teacher = detector(2), detector(4)
        >>> init = StudentInit(student, teacher)
        >>> init.parts
        {'bbox_head': (1, 1)}
        >>> init.read()
        >>> init.apply()
        >>> torch.equal(student['bbox_head'].weight, teacher['bbox_head'].weight)
        True
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.parts: dict[str, tuple[int, int]] = {}
        self._layers: list[tuple[nn.Module, nn.Module]] = []
        self._weights: list[dict[str, Tensor]] = []
        theirs = dict(trained_part(teacher)[1].named_children())
        for name, own in trained_part(student)[1].named_children():
            other = theirs.get(name)
            if name in _OWN or other is None or not _comparable(own, other):
                continue
            layers = {path: layer for path, layer in own.named_modules() if _tensors(layer)}
            alike = _alike(layers, other)
            if any(tensor.dim() > 1 for layer, _ in alike for tensor in layer.parameters(recurse=False)):
                self._layers += alike
                self.parts[name] = len(alike), len(layers)

    def __str__(self) -> str:
        return ', '.join(f'{name} ({alike} of {layers} layers)' for name, (alike, layers) in self.parts.items())

    def read(self) -> None:
        """Copy the teacher's weights, which will be fused and converted."""
        self._weights = [{name: tensor.detach().clone() for name, tensor in _tensors(layer).items()}
                         for _, layer in self._layers]

    @torch.no_grad()
    def apply(self) -> None:
        """Give the student the teacher's weights; to be called when the student has been initialised."""
        for (layer, _), weights in zip(self._layers, self._weights):
            for name, tensor in _tensors(layer).items():
                tensor.copy_(weights[name])
        print_log(f'The student starts with the teacher\'s {self}', logger='current')


def _comparable(own: nn.Module, other: nn.Module) -> bool:
    """Whether two parts are built alike, and the student's does not come from a file."""
    return type(own) is type(other) and own.state_dict().keys() == other.state_dict().keys() and \
        not any(_from_file(module) for module in own.modules())


def _from_file(module: nn.Module) -> bool:
    init: Any = getattr(module, 'init_cfg', None) or []
    entries = [init] if isinstance(init, dict) else init
    return any(entry.get('type') in ('Pretrained', PretrainedInit) for entry in entries)


def _alike(layers: Mapping[str, nn.Module], other: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Layers of a part whose tensors are shaped as the other part's, and those."""
    alike, others = [], dict(other.named_modules())
    taken: dict[str, bool] = {}  # whether the last layer was, by path of the module that holds it
    for path, layer in layers.items():
        parent = path.rpartition('.')[0]
        fits = path in others and _shapes(layer) == _shapes(others[path])
        if isinstance(layer, _NORMS):
            fits = fits and taken.get(parent, True)
        taken[parent] = fits
        if fits:
            alike.append((layer, others[path]))
    return alike


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module itself."""
    return dict([*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)])


def _shapes(layer: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _tensors(layer).items()}
