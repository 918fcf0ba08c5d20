"""A frozen model whose weights stay in host memory and visit the device one module at a time."""
from __future__ import annotations

import contextlib
from typing import Any, Iterator

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Offload:
    """Brings the weights of each module to the device for its own forward pass.

    Weights of a module that is never called itself, but read by the one around it
    (``out_proj`` of ``nn.MultiheadAttention``), come and go with that one.

    Args:
        model: A model that is not trained.
        called: Modules that a forward pass calls.
    """

    def __init__(self, model: nn.Module, called: set[nn.Module]) -> None:
        self.device: torch.device | None = None
        self.visiting = 0
        self.peak = 0
        self._handles: list[RemovableHandle] = []
        self._visits: dict[tuple[nn.Module, nn.Module], _Visit] = {}
        self._adopt(model, model if model in called else None, called)

    def _adopt(self, module: nn.Module, caller: nn.Module | None, called: set[nn.Module]) -> None:
        """Attach hooks to ``module`` and those within it; ``caller`` is the nearest one around it that is called."""
        user = module if module in called else caller
        own = [*module._parameters.values(), *module._buffers.values()]
        # A module may be found in several places (RTMDet's heads share convolutions).
        if user is not None and any(x is not None for x in own) and (user, module) not in self._visits:
            visit = self._visits[user, module] = _Visit(self, module)
            self._handles += [user.register_forward_pre_hook(visit.begin), user.register_forward_hook(visit.end)]
        for child in module.children():
            self._adopt(child, user, called)

    @contextlib.contextmanager
    def forward_pass(self) -> Iterator[None]:
        """A forward pass that may be left by an exception: weights go back to the host all the same."""
        try:
            yield
        finally:
            for visit in self._visits.values():
                visit.give_back()

    def remove(self) -> None:
        """Remove the hooks; the model stays where it is."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._visits.clear()


class _Visit:
    """The direct parameters and buffers of one module, and their way to the device and back."""

    def __init__(self, offload: Offload, module: nn.Module) -> None:
        self.offload = offload
        self.tensors = [x for x in (*module._parameters.values(), *module._buffers.values()) if x is not None]
        self.host: list[Tensor] = []
        self.depth = 0

    def begin(self, module: nn.Module, args: Any) -> None:
        self.depth += 1
        if self.offload.device is None or self.depth > 1:
            return
        if self.offload.device.type == 'cuda' and not self.tensors[0].is_pinned():
            for x in self.tensors:
                x.data = x.data.pin_memory()
        self.host = [x.data for x in self.tensors]
        for x in self.tensors:
            x.data = x.data.to(self.offload.device, non_blocking=True, copy=True)
        self.offload.visiting += self._bytes()
        self.offload.peak = max(self.offload.peak, self.offload.visiting)

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        self.depth -= 1
        if not self.depth:
            self.give_back()

    def give_back(self) -> None:
        """Free the copies on the device, whether or not the module has returned."""
        self.depth = 0
        if self.host:
            self.offload.visiting -= self._bytes()
            for x, host in zip(self.tensors, self.host):
                x.data = host
            self.host = []

    def _bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in self.tensors)
