"""SRD loss and its gradient from passes over the features; they are read, never copied into a graph of small steps.

With z and t standardised per channel over N rows, d = z − t and S = Σ |d|^α, the elementwise form is
L = log(S / (N·C) + ε). Its gradient goes through z = (a − mean) · r alone:

    dL/da = r · k · (h − mean(h) − z · mean(h·z)),   h = |d|^(α−1) sign(d),   k = α / (N·C·(S / (N·C) + ε))

(batch normalisation's backward, whose means are sums that forward has made together with S). The correlation form
needs only ρ = mean(z·t): dL/da = r · dL/dρ / N · (t − z·ρ).

All levels of a loss go through each pass together, and processes exchange numbers once after each pass.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..utils.dist import gather_stacked, num_processes
from .base_backend import SRDBackend, SRDParams
from .channel_terms import Statistics, Terms


def _terms(backend: SRDBackend, params: SRDParams) -> tuple[Statistics, Terms]:
    processes = num_processes(params.sync)

    def gather(x: Tensor) -> Tensor:
        return gather_stacked(x) if processes > 1 else x[None]

    statistics = backend.statistics(gather(backend.moments()), params)
    sums = None if params.form == 'correlation' else gather(backend.powers(statistics, params))
    return statistics, backend.terms(statistics, sums, params, processes)


class _FusedSRD(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, params: SRDParams, kind: type[Any], *features: Tensor) -> tuple[Tensor, Tensor]:
        levels = len(features) // 2
        students = features[:levels]
        backend = kind(students, features[levels:])
        statistics, terms = _terms(backend, params)
        ctx.kind, ctx.params, ctx.dtypes = kind, params, [x.dtype for x in students]
        if any(ctx.needs_input_grad[2:]):
            if kind.recomputes:
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
        if ctx.kind.recomputes:
            levels = len(ctx.dtypes)
            saved = ctx.saved_tensors  # once: hooks on saved tensors run at each access
            passes = ctx.kind(saved[:levels], saved[levels:2 * levels])
            gradients = passes.gradient(Statistics(*saved[2 * levels:-1]), ctx.params, saved[-1], grad)
        else:
            gradients = [(x * grad.to(x.dtype)).to(dtype) for x, dtype in zip(ctx.saved_tensors, ctx.dtypes)]
        return None, None, *gradients, *[None] * len(gradients)


def fused_srd(students: Sequence[Tensor], teachers: Sequence[Tensor], params: SRDParams,
              backend: type[Any]) -> tuple[Tensor, Tensor]:
    """Mean loss of some levels, and their alignments, as :mod:`mmsrd.models.losses.functional` defines them.

    The gradient reaches the student only, and once: no second derivatives. Over several
    processes it assumes that all weigh the loss alike, and is what
    DistributedDataParallel's average turns into that of one process with the whole batch.

    Args:
        students: Projected levels of the student (N, C), (N, L, C) or (N, C, H, W), of any floating dtype.
        teachers: Levels of the teacher of the same shapes.
        params: Which loss.
        backend: Class of :class:`mmsrd.ops.SRDBackend`, see :func:`mmsrd.ops.choose_backend`.

    Returns:
        tuple: Scalar loss, and means of rho (levels,) without gradient; float32, or float64 for float64 students.
    """
    if not torch.is_grad_enabled():
        students = [x.detach() for x in students]  # inside of a Function needs_input_grad says nothing of no_grad
    value, alignment = _FusedSRD.apply(params, backend, *students, *teachers)
    return value, alignment
