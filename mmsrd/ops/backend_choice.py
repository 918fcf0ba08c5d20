"""Which backend computes the SRD loss."""
from __future__ import annotations

import functools
import os
from typing import Any, Sequence

import torch
from torch import Tensor

from ..compat.triton_support import has_triton, runs
from ..errors import ConfigError
from .torch_backend import TorchBackend

BACKENDS = ('auto', 'triton', 'torch', 'autograd')
"""``'autograd'`` is :mod:`mmsrd.models.losses.functional` differentiated by PyTorch: the reference, and slow."""


@functools.lru_cache(maxsize=None)
def triton_works(device: torch.device) -> bool:
    """Whether a kernel of the loss runs on ``device``; tried once."""
    def kernel() -> None:
        from .triton_backend import TritonBackend
        x = torch.ones(2, 1, device=device)
        bool(TritonBackend([x], [x]).moments().isfinite().all())
    return runs('SRDLoss', device, kernel)


def choose_backend(backend: str, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> type[Any] | None:
    """Class of :class:`mmsrd.ops.SRDBackend` for ``backend``; None for ``'autograd'``.

    ``'auto'`` is Triton for CUDA tensors of at most 32 bits, where it works, else PyTorch's operators.

    Raises:
        ConfigError: ``'triton'`` was asked for and the features are not on CUDA.
    """
    if backend == 'autograd':
        return None
    student = students[0]
    if backend == 'triton' and not student.is_cuda and os.environ.get('TRITON_INTERPRET') != '1':
        raise ConfigError.at('backend', backend, f'needs features on CUDA, not on {student.device}; write \'auto\'')
    float64 = torch.float64 in {x.dtype for x in (*students, *teachers)}  # the Triton kernels compute in float32
    if backend == 'triton' or (backend == 'auto' and student.is_cuda and not float64 and has_triton()
                               and triton_works(student.device)):
        from .triton_backend import TritonBackend  # only here: importing Triton takes a second
        return TritonBackend
    return TorchBackend
