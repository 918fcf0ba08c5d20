"""Which backend computes the SRD loss."""
from __future__ import annotations

import functools
import importlib.util
import logging
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..compat.torch_versions import version_tuple
from ..errors import ConfigError
from .torch_backend import TorchBackend

BACKENDS = ('auto', 'triton', 'torch', 'autograd')
"""``'autograd'`` is :mod:`mmsrd.models.losses.functional` differentiated by PyTorch: the reference, and slow."""


@functools.lru_cache(maxsize=None)
def has_triton() -> bool:
    """Whether there is a Triton that the kernels are written for; until PyTorch 2.4 it comes with an older one."""
    if importlib.util.find_spec('triton') is None:
        return False
    try:
        return version_tuple(version('triton')) >= (3, 0)
    except PackageNotFoundError:  # a build of one's own; triton_works() tries it
        return True


@functools.lru_cache(maxsize=None)
def triton_works(device: torch.device) -> bool:
    """Whether a kernel runs on ``device``; tried once, since Triton needs a C compiler and a GPU that it knows."""
    try:
        from .triton_backend import TritonBackend
        x = torch.ones(2, 1, device=device)
        return bool(TritonBackend([x], [x]).moments().isfinite().all())  # waits, so that a failed launch shows here
    except Exception as e:
        print_log(f'SRDLoss: Triton cannot be used on {device} ({type(e).__name__}: {e}); PyTorch\'s operators are '
                  'used instead, which is slower', logger='current', level=logging.WARNING)
        return False


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
