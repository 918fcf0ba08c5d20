"""A moving average of a model's weights that is updated in few launches, without waiting for the device."""
from __future__ import annotations

from typing import Any, Mapping

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from ..compat.torch_versions import TORCH
from .speedup import store_weights


class WeightAverage(ExponentialMovingAverage):
    """MMEngine's average of weights and buffers, with the number of updates on the host.

    Args:
        model: The model to follow, of which a copy is made.
        momentum: Share of the new weights at each update.

    Attributes:
        updates: Number of updates so far.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(model, momentum=0.25)
        >>> for value in (1.0, 5.0):
        ...     _ = torch.nn.init.constant_(model.weight, value)
        ...     average.update_parameters(model)
        >>> float(average.module.weight)   # 0.75 · 1 + 0.25 · 5
        2.0
    """

    avg_parameters: dict[str, Tensor]

    def __init__(self, model: nn.Module, momentum: float) -> None:
        super().__init__(model, momentum, update_buffers=True)
        self.updates = 0
        self._stored: list[tuple[str, Tensor]] = []

    def store(self, dtype: torch.dtype) -> None:
        """Let the copy compute with weights of ``dtype``; the average stays in float32 beside them.

        Autocast would convert the average's weights in every step. With float32 there is one copy of them again.
        """
        for name, _ in self._stored:
            self.module.get_parameter(name).data = self.avg_parameters[name]
        store_weights(self.module, dtype)
        self._stored = [(name, value) for name, value in self.module.state_dict().items()
                        if value.dtype != self.avg_parameters[name].dtype]

    def move_to(self, device: torch.device) -> None:
        """Move the copy and the average."""
        stored = {name: self.avg_parameters[name].to(device) for name, _ in self._stored}
        self.to(device)
        now = self.module.state_dict()  # a move replaces tensors
        self.avg_parameters = {**now, **stored}
        self._stored = [(name, now[name]) for name in stored]

    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's weights the first time, a share of them each time after it."""
        source = model.state_dict()
        if self.updates == 0:
            for name, value in self.avg_parameters.items():
                value.copy_(source[name])
        else:
            # A weight that layers share has several names; once each, as they would be written to at the same time.
            once = {value.data_ptr(): name for name, value in self.avg_parameters.items() if value.is_floating_point()}
            torch._foreach_lerp_([self.avg_parameters[name] for name in once.values()],
                                 [source[name].detach() for name in once.values()], self.momentum)
        self.updates += 1
        self._refresh()

    def _refresh(self) -> None:
        if self._stored:
            once = {copy.data_ptr(): (name, copy) for name, copy in self._stored}
            names, copies = zip(*once.values())
            averages = [self.avg_parameters[name] for name in names]
            if TORCH >= (2, 1):
                torch._foreach_copy_(copies, averages)
            else:
                for copy, average in zip(copies, averages):
                    copy.copy_(average)

    def release(self) -> None:
        """Let go of all tensors but the module's own."""
        self.avg_parameters, self._stored = {}, []

    def state(self) -> dict[str, Tensor]:
        """Number of updates and average, on the CPU and under MMEngine's names."""
        return {'steps': torch.tensor(self.updates),
                **{f'module.{name}': value.cpu() for name, value in self.avg_parameters.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave.

        Raises:
            RuntimeError: It is that of another model.
        """
        self.load_state_dict(state)
        for name, _ in self._stored:
            self.avg_parameters[name].copy_(state[f'module.{name}'])
        self._refresh()
        self.updates = int(state['steps'])
