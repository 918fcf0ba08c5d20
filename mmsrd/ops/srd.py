"""SRD loss and its gradient from passes over the features; they are read, never copied into a graph of small steps.

With z and t standardised per channel over N rows, d = z − t and S = Σ |d|^α, the elementwise form is
L = log(S / (N·C) + ε). Its gradient goes through z = (a − mean) · r alone:

    dL/da = r · k · (h − mean(h) − z · mean(h·z)),   h = |d|^(α−1) sign(d),   k = α / (N·C·(S / (N·C) + ε))

(batch normalisation's backward, whose means are sums that forward has made together with S). The correlation form
needs only ρ = mean(z·t): dL/da = r · dL/dρ / N · (t − z·ρ).

All levels of a loss go through each pass together, and processes exchange numbers once after each pass.
"""
from __future__ import annotations

import functools
import importlib.util
import logging
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Sequence

import torch
from mmengine.logging import print_log
from mmengine.utils import digit_version
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ConfigError
from ..utils.dist import gather_stacked, num_processes
from .srd_backend import SRDBackend, SRDParams, Statistics, Terms
from .torch_backend import TorchBackend

BACKENDS = ('auto', 'triton', 'torch', 'autograd')
"""``'autograd'`` is :mod:`mmsrd.models.losses.functional` differentiated by PyTorch: the reference, and slow."""


def fused_srd(students: Sequence[Tensor], teachers: Sequence[Tensor], params: SRDParams,
              backend: type[SRDBackend]) -> tuple[Tensor, Tensor]:
    """Return the mean loss of some levels, and their alignments, as :mod:`mmsrd.models.losses.functional` defines them.

    The gradient reaches the student only, and once: no second derivatives. Over several
    processes it assumes that all weigh the loss alike, and is what
    DistributedDataParallel's average turns into that of one process with the whole batch.

    Args:
        students: Projected levels of the student (N, C), (N, L, C) or (N, C, H, W), of any floating dtype.
        teachers: Levels of the teacher of the same shapes.
        params: Arguments of the loss.
        backend: Class of the backend, see :func:`mmsrd.ops.choose_backend`.

    Returns:
        tuple: Scalar loss, and means of rho (levels,) without gradient; float32, or float64 for float64 students.

    Example:
        >>> import torch
        >>> from mmsrd.ops import SRDParams, choose_backend, fused_srd
        >>> students, teachers = [torch.randn(2, 8, 4, 4)], [torch.randn(2, 8, 4, 4)]
        >>> backend = choose_backend('torch', students, teachers)
        >>> loss, alignment = fused_srd(students, teachers, SRDParams(), backend)
        >>> loss.shape, alignment.shape
        (torch.Size([]), torch.Size([1]))
    """
    if not torch.is_grad_enabled():
        students = [x.detach() for x in students]  # inside of a Function needs_input_grad says nothing of no_grad
    value, alignment = _FusedSRD.apply(params, backend, *students, *teachers)
    return value, alignment


class _FusedSRD(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, params: SRDParams, backend_class: type[SRDBackend],
                *features: Tensor) -> tuple[Tensor, Tensor]:
        levels = len(features) // 2
        students = features[:levels]
        backend = backend_class(students, features[levels:])
        statistics, terms = _terms(backend, params)
        ctx.backend_class, ctx.params, ctx.dtypes = backend_class, params, [x.dtype for x in students]
        if any(ctx.needs_input_grad[2:]):
            if backend.recomputes:
                ctx.save_for_backward(*features, *statistics, terms.coefficients)
            else:
                ctx.save_for_backward(*backend.gradient(statistics, params, terms.coefficients, None))
        dtype = torch.float64 if torch.float64 in ctx.dtypes else torch.float32
        value, alignment = terms.value.to(dtype), terms.alignment.to(dtype)
        ctx.mark_non_differentiable(alignment)
        return value, alignment

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # The loss scale of fp16 has to come in before the gradient is rounded to fp16.
        if ctx.backend_class.recomputes:
            levels = len(ctx.dtypes)
            saved = ctx.saved_tensors  # once: hooks on saved tensors run at each access
            backend = ctx.backend_class(saved[:levels], saved[levels:2 * levels])
            gradients = backend.gradient(Statistics(*saved[2 * levels:-1]), ctx.params, saved[-1], grad)
        else:
            gradients = [(x * grad.to(x.dtype)).to(dtype) for x, dtype in zip(ctx.saved_tensors, ctx.dtypes)]
        return None, None, *gradients, *[None] * len(gradients)


def _terms(backend: SRDBackend, params: SRDParams) -> tuple[Statistics, Terms]:
    processes = num_processes(params.sync)

    def gather(x: Tensor) -> Tensor:
        return gather_stacked(x) if processes > 1 else x[None]

    statistics = backend.statistics(gather(backend.moments()), params)
    sums = None if params.form == 'correlation' else gather(backend.powers(statistics, params))
    return statistics, backend.terms(statistics, sums, params, processes)


def choose_backend(backend: str, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> type[SRDBackend] | None:
    """Return the class of :class:`mmsrd.ops.SRDBackend` for some levels; None for ``'autograd'``.

    Args:
        backend: One of :data:`BACKENDS`. ``'auto'`` is Triton for CUDA tensors of at most 32 bits, where it works, else
            PyTorch's operators.
        students: Levels of the student.
        teachers: Levels of the teacher.

    Raises:
        ConfigError: ``'triton'`` was asked for and the features are not on CUDA.
    """
    if backend == 'autograd':
        return None
    student = students[0]
    if backend == 'triton' and not student.is_cuda and os.environ.get('TRITON_INTERPRET') != '1':
        raise ConfigError.at('backend', backend, f'needs features on CUDA, not on {student.device}; write \'auto\'')
    dtypes = {x.dtype for x in (*students, *teachers)}
    if backend == 'triton' or (backend == 'auto' and student.is_cuda and has_triton() and triton_works(student.device)
                               and _triton_computes(dtypes, student.device)):
        from .triton_backend import TritonBackend  # only here: importing Triton takes a second
        return TritonBackend
    return TorchBackend


def _triton_computes(dtypes: set[torch.dtype], device: torch.device) -> bool:
    """Return whether the kernels, which compute in float32, are made for such features.

    Triton compiles bfloat16 for GPUs before compute capability 8.0 in some of its versions only.
    """
    return torch.float64 not in dtypes and (
        torch.bfloat16 not in dtypes or torch.cuda.get_device_capability(device) >= (8, 0))


@functools.lru_cache(maxsize=None)
def has_triton() -> bool:
    """Return whether there is a Triton that the kernels are written for: 3.0 or newer, as with PyTorch 2.4."""
    if importlib.util.find_spec('triton') is None:
        return False
    try:
        return bool(digit_version(version('triton')) >= (3, 0))
    except PackageNotFoundError:  # a build of one's own; it is tried
        return True


@functools.lru_cache(maxsize=None)
def triton_works(device: torch.device) -> bool:
    """Return whether a kernel of the loss runs on ``device``, for which Triton needs a C compiler; tried once."""
    try:
        from .triton_backend import TritonBackend
        x = torch.ones(2, 1, device=device)
        bool(TritonBackend([x], [x]).moments().isfinite().all())  # waits, so that a failed launch shows
        return True
    except Exception as e:
        print_log(f'SRDLoss: Triton cannot be used on {device} ({type(e).__name__}: {e}); PyTorch\'s operators are '
                  'used instead, which is slower', logger='current', level=logging.WARNING)
        return False
