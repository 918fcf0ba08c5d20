"""MMEngine's strategies, with a student that may start with layers of its teacher."""
from __future__ import annotations

from typing import Any

from mmengine._strategy import DDPStrategy, SingleDeviceStrategy
from mmengine._strategy.fsdp import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ...distillers import set_aside


class _InitStudent:
    """Initialises the student as MMEngine does, then with layers of the teacher, before it is wrapped and sharded."""

    def _init_model_weights(self, model: nn.Module) -> nn.Module:
        with set_aside(model) as distiller:
            initialised: nn.Module = super()._init_model_weights(model)  # type: ignore[misc]
        distiller.teachers.init_student()
        return initialised


class DistillSingleDeviceStrategy(_InitStudent, SingleDeviceStrategy):
    """Strategy for one device."""


class DistillDDPStrategy(_InitStudent, DDPStrategy):
    """Data-parallel."""


class DistillFSDPStrategy(_InitStudent, FSDPStrategy):
    """Sharded. MMEngine 0.10.7 loads the optimizer's state with arguments in the order of before PyTorch 2.1."""

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the optimizer's state, whole or sharded as it was saved."""
        self.optim_wrapper.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict))


STRATEGIES: dict[str, type[Any]] = {
    'SingleDeviceStrategy': DistillSingleDeviceStrategy, 'DDPStrategy': DistillDDPStrategy,
    'FSDPStrategy': DistillFSDPStrategy}
"""Strategies that distillation was run with, by the names of MMEngine's."""
