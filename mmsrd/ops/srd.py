"""SRD loss and its gradient from passes over the features; they are read, never copied into a graph of small steps.

With z and t standardised per channel over N rows, d = z − t and S = Σ |d|^α, the elementwise form is
L = log(S / (N·C) + ε). Its gradient goes through z = (a − mean) · r alone:

    dL/da = r · k · (h − mean(h) − z · mean(h·z)),   h = |d|^(α−1) sign(d),   k = α / (N·C·(S / (N·C) + ε))

(batch normalisation's backward, whose means are sums that forward has made together with S). The correlation form
needs only ρ = mean(z·t): dL/da = r · dL/dρ / N · (t − z·ρ).
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..utils.dist import gather_stacked, num_processes
from ..utils.tensors import num_rows
from .base_backend import EmptyBackend, SRDBackend, SRDParams, Statistics


class _Terms(NamedTuple):
    """What forward finds: the value, the mean of rho, and what the gradient needs."""

    value: Tensor
    alignment: Tensor
    statistics: Statistics
    coefficients: Tensor


def _combined(moments: Tensor, rows: int, sync: bool) -> tuple[Tensor, Tensor]:
    """Moments (5, C) and number of rows (a scalar tensor) over all processes (Chan et al. 1979, pairwise update)."""
    count = moments.new_full((1,), rows)
    if num_processes(sync) == 1:
        return moments, count[0]
    gathered = gather_stacked(torch.cat([moments.flatten(), count]))
    counts = gathered[:, -1:]
    each = gathered[:, :-1].reshape(-1, *moments.shape)
    total = counts.sum()
    mean = (each[:, :2] * counts[..., None]).sum(0) / total
    away = each[:, :2] - mean
    spread = torch.stack([away[:, 0].square(), away[:, 1].square(), away[:, 0] * away[:, 1]], 1)
    return torch.cat([mean, each[:, 2:].sum(0) + (spread * counts[..., None]).sum(0)]), total


def _terms(backend: SRDBackend, rows: int, params: SRDParams) -> _Terms:
    alpha, world = params.alpha, num_processes(params.sync)
    moments, count = _combined(backend.moments(), rows, params.sync)
    variance = moments[2:4] / count
    if params.eps == 0:  # 0 · ∞ would be NaN; a dead channel of the teacher is enough
        variance = variance.masked_fill(variance == 0, float('inf'))
    scale = torch.rsqrt(variance + params.eps)
    statistics = Statistics(moments[:2], scale)
    rho = moments[4] / count * scale[0] * scale[1]
    if params.form == 'correlation':
        away = rho - 1
        power = away.abs() ** (alpha - 1) * away.sign()
        inner = (power * away).sum() + 1e-5
        coefficients = torch.stack([scale[0] * power * (alpha * world) / (inner * count), torch.zeros_like(rho), rho])
        return _Terms(inner.log(), rho.mean(), statistics, coefficients)
    sums = backend.powers(statistics, params)
    if world > 1:
        sums = gather_stacked(sums).sum(0)
    numel = count * rho.numel()
    inner = sums[0].sum() / numel + 1e-8
    value = inner.log() + numel.log() if params.reduction == 'sum' else inner.log()
    coefficients = torch.cat([scale[:1] * (alpha * world) / (inner * numel), sums[1:] / count])
    return _Terms(value, rho.mean(), statistics, coefficients)


class _FusedSRD(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, params: SRDParams,
                kind: type[Any]) -> tuple[Tensor, Tensor]:
        backend = kind(student, teacher)
        terms = _terms(backend, num_rows(student), params)
        ctx.kind, ctx.params, ctx.dtype = kind, params, student.dtype
        if ctx.needs_input_grad[0]:
            if kind.recomputes:
                ctx.save_for_backward(student, teacher, *terms.statistics, terms.coefficients)
            else:
                ctx.save_for_backward(backend.gradient(terms.statistics, params, terms.coefficients))
        dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
        value, alignment = terms.value.to(dtype), terms.alignment.to(dtype)
        ctx.mark_non_differentiable(alignment)
        return value, alignment

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # The loss scale of fp16 has to come in before the gradient is rounded to fp16.
        if not ctx.kind.recomputes:
            unscaled, = ctx.saved_tensors
            return (unscaled * grad.to(unscaled.dtype)).to(ctx.dtype), None, None, None
        student, teacher, mean, scale, coefficients = ctx.saved_tensors
        scaled = torch.cat([coefficients[:1] * grad, coefficients[1:]])
        return ctx.kind(student, teacher).gradient(Statistics(mean, scale), ctx.params, scaled), None, None, None


def fused_srd(student: Tensor, teacher: Tensor, params: SRDParams, backend: type[Any]) -> tuple[Tensor, Tensor]:
    """Loss and alignment, as the functions of :mod:`mmsrd.models.losses.functional` define them.

    The gradient reaches the student only, and once: no second derivatives. Over several
    processes it assumes that all weigh the loss alike, and is what
    DistributedDataParallel's average turns into that of one process with the whole batch.

    Args:
        student: Projected student feature (N, C), (N, L, C) or (N, C, H, W), of any floating dtype.
        teacher: Teacher feature of the same shape.
        params: Which loss.
        backend: Class of :class:`mmsrd.ops.SRDBackend`, see :func:`mmsrd.ops.choose_backend`.

    Returns:
        tuple: Scalar loss, and the mean of rho without gradient; float32, or float64 for float64 students.
    """
    if not torch.is_grad_enabled():
        student = student.detach()  # inside of a Function needs_input_grad says nothing of no_grad
    value, alignment = _FusedSRD.apply(student, teacher, params, backend if student.numel() else EmptyBackend)
    return value, alignment
