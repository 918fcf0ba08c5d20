"""How a frozen model is made fast: precision, folded batch normalisation, memory layout, compilation, a stream."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Union

import torch
from torch import nn

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
PLAIN: dict[str, Any] = dict(precision='fp32', fold=False, channels_last=False, stream=False, compile=False)
"""A teacher as it comes: every part switched off."""
_DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
_MATRIX_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class Inference:
    """``teacher.inference``; each entry has a value that switches it off.

    Attributes:
        precision: ``'bf16'`` or ``'fp16'``: weights of convolutions and linear layers are stored in it and the
            rest runs under autocast; ``'fp32'``: no autocast; ``'auto'``: as the student trains.
        fold: Fold batch normalisation into the convolution before it.
        channels_last: Convolve channels-last; ``'auto'``: on CUDA in half precision, where tensor cores want it.
        stream: On CUDA, run beside the student's head, in a stream of its own.
        compile: ``torch.compile`` the parts between the taps; a dict has its arguments.
    """

    precision: str = 'auto'
    fold: bool = True
    channels_last: Union[bool, str] = 'auto'
    stream: bool = True
    compile: Union[bool, Mapping[str, Any]] = False

    def dtype(self, students: torch.dtype | None) -> torch.dtype | None:
        """Autocast dtype of the teacher, None for none; ``students`` is that of the student."""
        if self.precision == 'auto':
            return students
        return None if self.precision == 'fp32' else _DTYPES[self.precision]

    def stores(self, device: torch.device) -> bool:
        """Whether weights are converted once, not in each step: where it was asked for, and on CUDA."""
        return device.type == 'cuda' or self.precision != 'auto'

    def last(self, device: torch.device, dtype: torch.dtype | None) -> bool:
        """Whether convolutions run channels-last."""
        return device.type == 'cuda' and dtype is not None if self.channels_last == 'auto' else bool(self.channels_last)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Dtype of the autocast around here, None where there is none."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def store_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights that autocast would convert in each step.

    Others stay as they are: normalisation wants float32, and a layer that computes with its
    weight before using it (weight standardisation) would lose by it.
    """
    for module in model.modules():
        if type(module) in _MATRIX_LAYERS:
            module.to(dtype)


def compile_parts(model: nn.Module, called: set[nn.Module], tapped: set[nn.Module],
                  options: Mapping[str, Any]) -> list[nn.Module]:
    """Compile the largest modules that have no tap inside, so that hooks stay outside of the graphs.

    Args:
        model: Whose parts.
        called: Modules that its forward pass calls.
        tapped: Modules with hooks.
        options: Arguments of ``torch.compile``.

    Returns:
        list: What has been compiled.
    """
    compiled = []
    for child in model.children():
        inside = set(child.modules()) - {child}
        if child in called and not inside & tapped and inside:
            child.forward = torch.compile(child.forward, **options)
            compiled.append(child)
        else:
            compiled += compile_parts(child, called, tapped, options)
    return compiled
