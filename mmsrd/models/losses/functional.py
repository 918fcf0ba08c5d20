"""Pure tensor functions of SRD.

Rows of a feature are all its positions but the channels (:mod:`mmsrd.utils.tensors`).
Functions that take ``reduce`` work on rows that are spread over processes: it maps
a tensor to its sum over the processes, and must be differentiable.
"""
from __future__ import annotations

import math
from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.tensors import channel_dim, num_rows

Reduce = Optional[Callable[[Tensor], Tensor]]


def _row_dims(x: Tensor) -> list[int]:
    return [d for d in range(x.dim()) if d != channel_dim(x)]


def _row_sums(x: Tensor, reduce: Reduce) -> Tensor:
    sums = x.sum(_row_dims(x), keepdim=True)
    return reduce(sums) if reduce else sums


def row_count(x: Tensor, reduce: Reduce = None) -> Tensor:
    """Number of rows of ``x`` over all processes, a scalar tensor of the dtype of ``x``; at least 1, to divide by."""
    count = x.new_full((), num_rows(x))  # filled on the device: no copy to wait for
    return (reduce(count) if reduce else count).clamp(min=1)


def where_enough(value: Tensor, x: Tensor, rows: int, reduce: Reduce = None) -> Tensor:
    """``value`` where ``x`` has at least so many rows over all processes, else a zero without gradient.

    Args:
        value: A loss, scalar.
        x: Feature (N, C), (N, C, H, W) or (N, L, C).
        rows: Rows that are enough.
        reduce: Sum over processes; None for this process alone.
    """
    count = value.new_full((), num_rows(x))
    return torch.where((reduce(count) if reduce else count) >= rows, value, torch.zeros_like(value))


def standardize(x: Tensor, eps: float = 1e-4, reduce: Reduce = None) -> Tensor:
    """Standardise each channel over the rows, as batch normalisation without affine parameters.

    Args:
        x: Feature (N, C), (N, C, H, W) or (N, L, C), float32 or float64.
        eps: Added to the biased variance.
        reduce: Sum over processes; None for this process alone.

    Returns:
        Tensor: Same shape, mean 0 and variance 1 (less eps) in each channel; 0 in constant channels, also at eps 0.
    """
    count = row_count(x, reduce)
    centred = x - _row_sums(x, reduce) / count
    variance = _row_sums(centred.square(), reduce) / count
    if eps == 0:  # 0 · ∞ would be NaN, in the gradient too: a dead channel of the teacher is enough
        variance = variance.masked_fill(variance == 0, float('inf'))
    return centred * torch.rsqrt(variance + eps)


def unit_rows(x: Tensor) -> Tensor:
    """Each row over its Euclidean norm over the channels; rows of zeros stay."""
    return F.normalize(x, dim=channel_dim(x))


def mean_square(x: Tensor, reduce: Reduce = None) -> Tensor:
    """Mean of the squares of all elements, a scalar."""
    return mean(x.square(), reduce)


def mean(x: Tensor, reduce: Reduce = None) -> Tensor:
    """Mean of all elements, a scalar."""
    total = x.sum()
    return (reduce(total) if reduce else total) / (row_count(x, reduce) * x.size(channel_dim(x)))


def correlation(z: Tensor, t: Tensor, reduce: Reduce = None) -> Tensor:
    """Mean over the rows of z·t per channel: the correlation where both are standardised.

    Args:
        z: Standardised feature (N, C), (N, C, H, W) or (N, L, C).
        t: Another of the same shape.
        reduce: Sum over processes; None for this process alone.

    Returns:
        Tensor: (C,).
    """
    return (_row_sums(z * t, reduce) / row_count(z, reduce)).flatten()


def log_sum(z: Tensor, t: Tensor, alpha: float = 4.0, reduction: str = 'mean', eps: float = 1e-8,
            reduce: Reduce = None) -> Tensor:
    """Soft maximum of the differences: ``log(mean(|z - t| ** alpha) + eps)`` (SRD, eq. of the log-sum loss).

    Args:
        z: Standardised, projected student feature.
        t: Standardised teacher feature of the same shape.
        alpha: Exponent, at least 1.
        reduction: ``'mean'``, or ``'sum'`` for the paper's ``log(sum(...))``, which
            is larger by log(numel) and has the same gradient.
        eps: Keeps the value finite where z equals t.
        reduce: Sum over processes; None for this process alone.

    Returns:
        Tensor: Scalar.
    """
    powers = _abs_power(z - t, alpha).sum()
    count = row_count(z, reduce) * z.size(channel_dim(z))
    mean = (reduce(powers) if reduce else powers) / count
    value = torch.log(mean + eps)
    return value + torch.log(count) if reduction == 'sum' else value


def correlation_log_sum(rho: Tensor, alpha: float = 4.0, eps: float = 1e-5) -> Tensor:
    """Soft maximum of the decorrelation: ``log(sum_c |rho_c - 1| ** alpha + eps)`` (SRD's DeiT experiments).

    Args:
        rho: Correlation per channel (C,).
        alpha: Exponent, at least 1.
        eps: Keeps the value finite where all channels agree.

    Returns:
        Tensor: Scalar.
    """
    return torch.log(_abs_power(rho - 1, alpha).sum() + eps)


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, reduce: Reduce = None) -> Tensor:
    """``T² · mean over rows of KL(softmax(teacher / T) || softmax(student / T))`` (Hinton et al. 2015).

    Args:
        student: Logits (N, C), (N, L, C) or (N, C, H, W).
        teacher: Logits of the same shape.
        temperature: T, above 0.
        reduce: Sum over processes; None for this process alone.

    Returns:
        Tensor: Scalar.
    """
    dim = channel_dim(student)
    log_s, log_t = F.log_softmax(student / temperature, dim), F.log_softmax(teacher / temperature, dim)
    total = F.kl_div(log_s, log_t, reduction='sum', log_target=True)
    return _softened(total, temperature, student, reduce)


def binary_kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, reduce: Reduce = None) -> Tensor:
    """``T² · mean over rows of sum over classes of KL(Bernoulli(sigmoid(teacher / T)) || … student)``.

    Args:
        student: Logits (N, C), (N, L, C) or (N, C, H, W).
        teacher: Logits of the same shape.
        temperature: T, above 0.
        reduce: Sum over processes; None for this process alone.

    Returns:
        Tensor: Scalar.
    """
    s, t = student / temperature, teacher / temperature
    p = t.sigmoid()
    total = (p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))).sum()
    return _softened(total, temperature, student, reduce)


def spatial_kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, reduce: Reduce = None) -> Tensor:
    """``T² · mean over images and channels of KL(softmax over positions(teacher / T) || … student)`` (CWD, eq. 4).

    Args:
        student: Feature (N, C, H, W), or (N, L, C) whose positions are tokens.
        teacher: Feature of the same shape.
        temperature: T, above 0.
        reduce: Sum over processes; None for this process alone.

    Returns:
        Tensor: Scalar.
    """
    s, t = ((x.flatten(2) if x.dim() == 4 else x.transpose(1, 2)).flatten(0, 1) for x in (student, teacher))
    return kl_divergence(s, t, temperature, reduce)  # a row for each channel of an image, its positions as classes


def class_relations(student: Tensor, teacher: Tensor, temperature: float = 1.0,
                    reduce: Reduce = None) -> tuple[Tensor, Tensor]:
    """Distances of class probabilities from being correlated, ``T² · (1 - mean correlation)`` (DIST, eq. 8 to 10).

    Rows and classes whose probabilities are all equal have the correlation 0.

    Args:
        student: Logits (N, C), (N, L, C) or (N, C, H, W).
        teacher: Logits of the same shape.
        temperature: T, above 0.
        reduce: Sum over processes; None for this process alone.

    Returns:
        tuple: Between the classes of each row, and within each class over all rows; scalars.
    """
    dim = channel_dim(student)
    s, t = ((x / temperature).softmax(dim).movedim(dim, -1).flatten(0, -2) for x in (student, teacher))
    rows = row_count(s, reduce)

    def over_classes(x: Tensor) -> Tensor:
        return x.sum(1, keepdim=True)

    def over_rows(x: Tensor) -> Tensor:
        return _row_sums(x, reduce)

    between = over_rows(_correlations(s, t, over_classes, s.size(1))).squeeze() / rows
    within = _correlations(s, t, over_rows, rows).mean()
    return temperature**2 * (1 - between), temperature**2 * (1 - within)


def _correlations(s: Tensor, t: Tensor, sums: Callable[[Tensor], Tensor], count: int | Tensor) -> Tensor:
    """Correlations of probabilities along what ``sums`` adds; 0 without a gradient where one side is constant there."""
    sides, scales = [], []
    for x in (s, t):
        mean = sums(x) / count
        away = x - mean
        # What is left of equal values is rounding, which would be divided by itself.
        away = away.masked_fill(away.abs() <= 32 * torch.finfo(x.dtype).eps * mean, 0)
        size = sums(away.abs()).detach()  # a correlation has no scale, and squares of tiny probabilities underflow
        away = away / size.masked_fill(size == 0, float('inf'))
        square = sums(away.square())
        sides.append(away)
        scales.append(torch.rsqrt(square.masked_fill(square == 0, float('inf'))))
    return sums(sides[0] * sides[1]) * scales[0] * scales[1]


def _softened(total: Tensor, temperature: float, logits: Tensor, reduce: Reduce) -> Tensor:
    """A divergence summed in this process: its mean over the rows of ``logits``, scaled with T²."""
    return temperature**2 * (reduce(total) if reduce else total) / row_count(logits, reduce)


def _abs_power(x: Tensor, alpha: float) -> Tensor:
    if alpha == 1:
        return x.abs()  # its gradient at 0 is 0; that of pow(1) would be as well, but slower
    if alpha % 2 == 0 and math.log2(alpha).is_integer():
        # Squaring is several times faster than pow, forwards and backwards.
        for _ in range(int(math.log2(alpha))):
            x = x.square()
        return x
    return x.abs().pow(alpha)
