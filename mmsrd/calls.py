"""A call of a student's forward: its arguments by name, and the batches of images in them."""
from __future__ import annotations

import inspect
from typing import Any, Mapping, Optional, Sequence

from torch import Tensor, nn

from .errors import ConfigError

Batch = tuple[Tensor, Optional[Sequence[Any]]]
"""Normalised images (N, C, H, W) and their data samples."""


def arguments_of(student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``student.forward`` by name, defaults included."""
    bound = inspect.signature(student.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def batches_of(student: nn.Module, inputs: Any, data_samples: Any) -> list[Batch]:
    """Batches that the student itself sees; a semi-supervised detector gets some for its own teacher, too.

    Raises:
        ConfigError: ``inputs`` are no images.
    """
    if isinstance(inputs, Tensor):
        return [(inputs, data_samples)]
    if isinstance(inputs, Mapping) and inputs and all(isinstance(x, Tensor) for x in inputs.values()):
        return [(batch, data_samples[name]) for name, batch in inputs.items() if not name.endswith('_teacher')]
    raise ConfigError(f'{type(student).__name__} gets its inputs as a {type(inputs).__name__}; distillation needs '
                      'batches of images')
