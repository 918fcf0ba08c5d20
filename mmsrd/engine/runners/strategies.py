"""MMEngine's strategies, with a student that may start with layers of its teacher."""
from __future__ import annotations

from typing import Any

from mmengine._strategy import DDPStrategy, SingleDeviceStrategy
from torch import nn

from ...compat.fsdp import CurrentFSDPStrategy
from ...distillers import CHILD


class _InitStudent:
    """Initialises the student as MMEngine does, then with layers of the teacher, before it is wrapped and sharded."""

    def _init_model_weights(self, model: nn.Module) -> nn.Module:
        initialised: nn.Module = super()._init_model_weights(model)  # type: ignore[misc]
        getattr(initialised, CHILD).teachers.init_student()
        return initialised


class DistillSingleDeviceStrategy(_InitStudent, SingleDeviceStrategy):
    """On one device."""


class DistillDDPStrategy(_InitStudent, DDPStrategy):
    """Data-parallel."""


class DistillFSDPStrategy(_InitStudent, CurrentFSDPStrategy):
    """Sharded."""


STRATEGIES: dict[str, type[Any]] = {
    'SingleDeviceStrategy': DistillSingleDeviceStrategy, 'DDPStrategy': DistillDDPStrategy,
    'FSDPStrategy': DistillFSDPStrategy}
"""Strategies that distillation was run with, by the names of MMEngine's."""
