"""A student that learns from unlabelled images: only what its teachers' features can train is run."""
from __future__ import annotations

import contextlib
from typing import Any, Iterable, Sequence

import torch
from torch import Tensor, nn

from ..config import LossConfig
from ..errors import ConfigError
from ..recorders import EXTRACT_FEAT, AllRecordedSignal, DryRun, evaluating, run_forward
from .level_matching import LevelPair


class UnlabelledForward:
    """Forward pass of a student without labels, in place of its own while a distiller is attached.

    In ``mode='loss'`` it ends with the last recorded module and returns no losses, so what the distiller adds is all
    that trains. Other modes are the student's. Parameters that no distillation loss reaches take no gradient, so
    DistributedDataParallel does not wait for them.

    Args:
        student: The student.
        forward: How it is run (:data:`mmsrd.recorders.FORWARDS`).
        untrained: Names of the parameters that no loss reaches.
    """

    def __init__(self, student: nn.Module, forward: str, untrained: Iterable[str]) -> None:
        self.student = student
        self.own = student.forward
        self.way = forward
        self.untrained = [student.get_parameter(name) for name in untrained]
        self._own_entry = student.__dict__.get('forward')  # of torch.compile, for instance
        for parameter in self.untrained:
            parameter.requires_grad_(False)
        student.forward = self  # MMEngine's `compile` sets it likewise; a hook cannot end a forward pass

    def __call__(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        if mode != 'loss':
            return self.own(inputs, data_samples, mode=mode)
        if not isinstance(inputs, Tensor):
            raise ConfigError('distill.labels = False: inputs are several batches, as of a semi-supervised detector, '
                              'which is not supported; train the detector inside it with a config of its own')
        with contextlib.suppress(AllRecordedSignal):
            if self.way == EXTRACT_FEAT:
                run_forward(self.student, self.way, inputs)
            else:
                self.own(inputs, data_samples, mode='tensor')
        return {}

    def remove(self) -> None:
        """Give the student back its own forward pass, and its parameters their gradients."""
        del self.student.forward
        if self._own_entry is not None:
            self.student.forward = self._own_entry
        for parameter in self.untrained:
            parameter.requires_grad_()


def unreached(student: nn.Module, run: DryRun, losses: Sequence[tuple[LossConfig, Sequence[LevelPair]]]) -> list[str]:
    """Return the names of trainable parameters that no compared level depends on.

    Args:
        student: The student.
        run: Dry run of it with gradients.
        losses: The losses and the pairs of levels that each compares.

    Raises:
        ConfigError: No loss has a weight.
    """
    levels = [run.levels(loss.student, f'{loss.key}.student')[pair.student]
              for loss, pairs in losses if loss.weight for pair in pairs]
    compared = [level.sum() for level in levels if level.requires_grad]
    if not compared:
        raise ConfigError('distill.labels = False: no distillation loss trains the student: each has weight=0 or '
                          'compares frozen layers only')
    trainable = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    kept = [parameter.grad for parameter in trainable.values()]
    try:
        for parameter in trainable.values():
            parameter.grad = None
        with evaluating(student):  # activation checkpointing runs modules again; and it refuses torch.autograd.grad
            torch.autograd.backward(compared)
        return [name for name, parameter in trainable.items() if parameter.grad is None]
    finally:
        for parameter, gradient in zip(trainable.values(), kept):
            parameter.grad = gradient
