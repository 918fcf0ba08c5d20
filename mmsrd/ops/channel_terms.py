"""What stands between the passes over the features: numbers per channel of all levels, in T columns side by side."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base_backend import SRDParams

MIN_ROWS = 4
"""Rows from which on a level counts; with fewer, loss and gradient of that level are zero.

Mean and variance of each channel take two degrees of freedom: two rows are -1 and 1 whatever they were, and the
gradient is that of ``eps``. From four rows on the gradient's norm falls with ``1 / sqrt(rows)``, as that of any mean
over a batch does (``tests/test_models/test_few_rows.py``).
"""


class Statistics(NamedTuple):
    """How to standardise: ``(x - mean) * scale`` per channel.

    Attributes:
        mean: Of student and teacher (2, T).
        scale: ``1 / sqrt(variance + eps)`` of both (2, T); 0 for constant channels at eps 0.
        rho: Mean of the product of both standardised (T,).
        rows: Number of rows of each level (levels,).
    """

    mean: Tensor
    scale: Tensor
    rho: Tensor
    rows: Tensor


class Terms(NamedTuple):
    """The result, and what the gradient needs.

    Attributes:
        value: Mean of the levels' losses, a scalar.
        alignment: Mean rho of each level (levels,).
        coefficients: Of :meth:`mmsrd.ops.SRDBackend.gradient`, (3, T).
    """

    value: Tensor
    alignment: Tensor
    coefficients: Tensor


def statistics_of(gathered: Tensor, channels: Sequence[int], params: SRDParams) -> Statistics:
    """Statistics of all processes together (Chan et al. 1979, pairwise update); see :class:`mmsrd.ops.SRDBackend`.

    Args:
        gathered: Moments of each process (processes, 5 · T + levels).
        channels: Number of channels of each level; T in all.
        params: Which loss.
    """
    width = sum(channels)
    moments, counts = gathered[:, :-len(channels)].view(-1, 5, width), gathered[:, -len(channels):]
    total = counts.sum(0)
    rows = _per_column(total.clamp(min=1), channels)
    mean, sums = moments[0, :2], moments[0, 2:]
    if len(gathered) > 1:
        each = torch.stack([_per_column(own, channels) for own in counts])[:, None]
        mean = (moments[:, :2] * each).sum(0) / rows
        away = moments[:, :2] - mean
        spread = torch.stack([away[:, 0].square(), away[:, 1].square(), away[:, 0] * away[:, 1]], 1)
        sums = moments[:, 2:].sum(0) + (spread * each).sum(0)
    variance = sums[:2] / rows
    if params.eps == 0:  # 0 · ∞ would be NaN; a dead channel of the teacher is enough
        variance = variance.masked_fill(variance == 0, float('inf'))
    scale = torch.rsqrt(variance + params.eps)
    return Statistics(mean, scale, sums[2] / rows * scale[0] * scale[1], total)


def terms_of(statistics: Statistics, gathered: Tensor | None, channels: Sequence[int], params: SRDParams,
             processes: int) -> Terms:
    """Value and coefficients; see :class:`mmsrd.ops.SRDBackend`."""
    rho, rows = statistics.rho, statistics.rows.clamp(min=1)
    enough = statistics.rows >= MIN_ROWS
    factor = params.alpha * processes / len(channels)
    if params.form == 'correlation':
        away = rho - 1
        power = away.abs() ** (params.alpha - 1) * away.sign()
        inner = _per_level(power * away, channels) + 1e-5
        first = statistics.scale[0] * power * factor / _per_column(inner * rows, channels)
        coefficients = torch.stack([first, torch.zeros_like(rho), rho])
    else:
        assert gathered is not None, 'the elementwise form has powers'
        sums = gathered.sum(0).view(3, -1)
        numel = rows * rows.new_tensor(channels)
        inner = _per_level(sums[0], channels) / numel + 1e-8
        first = statistics.scale[:1] * factor / _per_column(inner * numel, channels)
        coefficients = torch.cat([first, sums[1:] / _per_column(rows, channels)])
        if params.reduction == 'sum':
            inner = inner * numel
    value = torch.where(enough, inner.log(), torch.zeros_like(inner)).mean()
    coefficients = torch.where(_per_column(enough, channels), coefficients, torch.zeros_like(coefficients))
    return Terms(value, _per_level(rho, channels) / rows.new_tensor(channels), coefficients)


def _per_level(x: Tensor, channels: Sequence[int]) -> Tensor:
    """Sums (levels,) of the columns (T,) of each level."""
    return torch.stack([part.sum() for part in torch.split(x, list(channels))])


def _per_column(x: Tensor, channels: Sequence[int]) -> Tensor:
    """Numbers (levels,) repeated for each column (T,) of their level."""
    return torch.cat([part.expand(n) for part, n in zip(torch.split(x, 1), channels)])
