"""In which precision and memory layout a frozen model runs."""
from __future__ import annotations

import torch
from torch import nn

from ...config import InferenceConfig

_DTYPES = dict(bf16=torch.bfloat16, fp16=torch.float16)
_MATRIX_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


def teacher_dtype(config: InferenceConfig, student: torch.dtype | None) -> torch.dtype | None:
    """Autocast dtype of the teacher, None for none; ``student`` is that of the student."""
    if config.precision == 'auto':
        return student
    return _DTYPES.get(config.precision)


def stores_weights(config: InferenceConfig, device: torch.device) -> bool:
    """Whether weights are converted once, not in each step: where it was asked for, and on CUDA."""
    return device.type == 'cuda' or config.precision != 'auto'


def is_channels_last(config: InferenceConfig, device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether convolutions run channels-last."""
    if config.channels_last == 'auto':
        return device.type == 'cuda' and dtype is not None
    return bool(config.channels_last)


def store_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights that autocast would convert in each step.

    Others stay as they are: normalisation wants float32, and a layer that computes with its
    weight before using it (weight standardisation) would lose by it.
    """
    for module in model.modules():
        if type(module) in _MATRIX_LAYERS:
            module.to(dtype)
