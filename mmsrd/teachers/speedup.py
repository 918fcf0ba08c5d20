"""How a frozen model is made fast: precision, memory layout, a stream of its own, compilation."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, TypeVar

import torch
from torch import nn

from ..config import InferenceConfig
from .offload import Offload

T = TypeVar('T')
_DTYPES = dict(bf16=torch.bfloat16, fp16=torch.float16)
_MATRIX_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


def teacher_dtype(config: InferenceConfig, student: torch.dtype | None) -> torch.dtype | None:
    """Autocast dtype of the teacher, None for none; ``student`` is that of the student."""
    if config.precision == 'auto':
        return student
    return _DTYPES.get(config.precision)


def stores_weights(config: InferenceConfig, device: torch.device) -> bool:
    """Return whether weights are converted once, not in each step: on CUDA, and wherever a precision was asked for."""
    return device.type == 'cuda' or config.precision != 'auto'


def is_channels_last(config: InferenceConfig, device: torch.device, dtype: torch.dtype | None) -> bool:
    """Return whether convolutions run channels-last.

    Args:
        config: How the teacher is made fast.
        device: Where it runs.
        dtype: Its autocast dtype; None for none.
    """
    if config.channels_last == 'auto':
        return device.type == 'cuda' and dtype is not None
    return bool(config.channels_last)


def store_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights that autocast would convert in each step.

    Others stay as they are: normalisation wants float32, and a layer that computes with its
    weight before using it (weight standardisation) would lose precision.
    """
    for module in model.modules():
        if type(module) in _MATRIX_LAYERS:
            module.to(dtype)


def compile_parts(model: nn.Module, called: set[nn.Module], recorded: set[nn.Module],
                  options: Mapping[str, Any]) -> list[nn.Module]:
    """Compile the largest modules that have no recorded module inside, so that hooks stay outside of the graphs.

    Args:
        model: Whose parts.
        called: Modules that its forward pass calls.
        recorded: Modules with hooks.
        options: Arguments of ``torch.compile``.

    Returns:
        list: What has been compiled.
    """
    compiled = []
    for child in model.children():
        inside = set(child.modules()) - {child}
        if child in called and not inside & recorded and inside:
            child.forward = torch.compile(child.forward, **options)
            compiled.append(child)
        else:
            compiled += compile_parts(child, called, recorded, options)
    return compiled


class SideStream:
    """Runs work beside the current stream until :meth:`synchronize`; elsewhere than on CUDA it is done at once.

    The work begins when the device has done what was queued so far, and what is queued
    after :meth:`synchronize` begins when the work is done. Keep what the work reads until then:
    memory that is freed before may be handed out while the work still reads it.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._busy: torch.device | None = None

    def __reduce__(self) -> tuple[type[SideStream], tuple[()]]:
        return SideStream, ()  # a copy has streams of its own

    def run(self, work: Callable[[], T], device: torch.device) -> T:
        """Queue ``work``, which must not wait for the device."""
        if device.type != 'cuda':
            return work()
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))
        self._busy = device
        with torch.cuda.stream(stream):
            return work()

    def synchronize(self) -> None:
        """Let what is queued from now on wait for the work; the host does not wait."""
        if self._busy is not None:
            torch.cuda.current_stream(self._busy).wait_stream(self._streams[self._busy])
            self._busy = None


class OriginalModel:
    """Layers, weights and buffers of a model on the CPU, before it is made fast, so that it can be taken back.

    The weights cost no memory until the model moves to a device.

    Args:
        model: The model, with its hooks.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [(module, vars(module).get('forward'), dict(module._modules), dict(module._buffers),
                       {name: (weight, None if weight is None else weight.data)
                        for name, weight in module._parameters.items()}) for module in model.modules()]

    def restore(self) -> None:
        """Make the model what it was, on the CPU."""
        for module, forward, children, buffers, parameters in self._kept:
            module._modules.update(children)
            module._buffers.update(buffers)
            vars(module).pop('forward', None)  # of torch.compile; some modules have one of their own
            if forward is not None:
                module.forward = forward
            for name, (weight, data) in parameters.items():
                if weight is not None and data is not None:
                    weight.data = data
                module._parameters[name] = weight


@dataclass(frozen=True)
class AppliedSpeedups:
    """Speed-ups that were applied to a model.

    Attributes:
        stored_dtype: Dtype that weights of convolutions and linear layers were converted to, None for none.
        channels_last: Whether it takes images channels-last.
        offload: What brings its weights to the device, where they stay in host memory.
    """

    stored_dtype: Optional[torch.dtype] = None
    channels_last: bool = False
    offload: Optional[Offload] = None


def apply_speedups(model: nn.Module, inference: InferenceConfig, offloads: bool, called: set[nn.Module],
                   recorded: set[nn.Module], device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
    """Make a frozen model fast, before it moves to the device.

    Args:
        model: The model.
        inference: How it is made fast.
        offloads: Whether its weights stay in host memory.
        called: Modules that its forward pass calls.
        recorded: Modules with hooks.
        device: Where it will run.
        dtype: Autocast dtype that it will run under, None for none.
    """
    stored = dtype if dtype is not None and stores_weights(inference, device) else None
    if stored is not None:
        store_weights(model, stored)
    channels_last = is_channels_last(inference, device, dtype)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    offload = Offload(model, called) if offloads else None
    if inference.compile is not False:
        compile_parts(model, called, recorded, {} if inference.compile is True else dict(inference.compile))
    return AppliedSpeedups(stored, channels_last, offload)
