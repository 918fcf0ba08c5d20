"""Which backend computes the SRD loss."""
from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from .torch_passes import TorchPasses

BACKENDS = ('auto', 'triton', 'torch', 'autograd')
"""``'autograd'`` is :mod:`mmsrd.functional` differentiated by PyTorch: the reference, and slow."""


@functools.cache
def has_triton() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec('triton') is not None


def choose_passes(backend: str, student: Tensor, teacher: Tensor) -> type[Any] | None:
    """Class of :class:`mmsrd.kernels.passes.Passes` for ``backend``; None for ``'autograd'``.

    ``'auto'`` is Triton for CUDA tensors of at most 32 bits, where it is installed, else PyTorch's operators.
    """
    if backend == 'autograd':
        return None
    wide = torch.float64 in (student.dtype, teacher.dtype)  # the Triton kernels compute in float32
    if backend == 'triton' or (backend == 'auto' and student.is_cuda and not wide and has_triton()):
        from .triton_passes import TritonPasses  # only here: importing Triton takes a second
        return TritonPasses
    return TorchPasses
