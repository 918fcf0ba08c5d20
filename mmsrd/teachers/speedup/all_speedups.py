"""All of ``teacher.inference`` that changes the model itself, applied once before its first step."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn

from ...config import PretrainedTeacherConfig
from .compile_parts import compile_parts
from .offload import Offload
from .precision import is_channels_last, store_weights, stores_weights


@dataclass(frozen=True)
class AppliedSpeedups:
    """What has been done to a model.

    Attributes:
        stored_dtype: Dtype that weights of convolutions and linear layers were converted to, None for none.
        channels_last: Whether it takes images channels-last.
        offload: What brings its weights to the device, where they stay in host memory.
    """

    stored_dtype: Optional[torch.dtype] = None
    channels_last: bool = False
    offload: Optional[Offload] = None


def apply_speedups(model: nn.Module, config: PretrainedTeacherConfig, called: set[nn.Module],
                   recorded: set[nn.Module], device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
    """Make a frozen model fast, before it moves to the device.

    Args:
        model: The model.
        config: Its part of the ``distill`` block.
        called: Modules that its forward pass calls.
        recorded: Modules with hooks.
        device: Where it will run.
        dtype: Autocast dtype that it will run under, None for none.
    """
    inference = config.inference
    stored = dtype if dtype is not None and stores_weights(inference, device) else None
    if stored is not None:
        store_weights(model, stored)
    channels_last = is_channels_last(inference, device, dtype)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    offload = Offload(model, called) if config.offload else None
    if inference.compile is not False:
        compile_parts(model, called, recorded, {} if inference.compile is True else dict(inference.compile))
    return AppliedSpeedups(stored, channels_last, offload)
