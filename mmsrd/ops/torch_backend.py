"""The SRD backend in PyTorch's own operators, for any device: three temporaries, reused in place."""
from __future__ import annotations

from typing import Iterator, Sequence

import torch
from torch import Tensor

from ..utils.tensors import channel_dim, num_rows
from .srd_backend import MIN_ROWS, SRDBackend, SRDParams, Statistics, Terms


class TorchBackend(SRDBackend):
    """Keeps the standardised features from one pass to the next; the gradient replaces them in forward."""

    recomputes = False

    def __init__(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        self.levels = [_Level(s, t) for s, t in zip(students, teachers)]
        self.channels = [s.size(channel_dim(s)) for s in students]
        self.rows = [num_rows(s) for s in students]

    def moments(self) -> Tensor:
        moments = torch.cat([level.moments() for level in self.levels], 1)
        return torch.cat([moments.flatten(), _numbers(self.rows, moments)])

    def statistics(self, gathered: Tensor, params: SRDParams) -> Statistics:
        levels, width = len(self.channels), sum(self.channels)
        moments, counts = gathered[:, :-levels].view(-1, 5, width), gathered[:, -levels:]
        total = counts.sum(0)
        rows = self._per_column(total.clamp(min=1))
        mean, sums = moments[0, :2], moments[0, 2:]
        if len(gathered) > 1:  # pairwise update of Chan et al. 1979
            weights = torch.stack([self._per_column(count) for count in counts])[:, None]
            mean = (moments[:, :2] * weights).sum(0) / rows
            shift = moments[:, :2] - mean
            spread = torch.stack([shift[:, 0].square(), shift[:, 1].square(), shift[:, 0] * shift[:, 1]], 1)
            sums = moments[:, 2:].sum(0) + (spread * weights).sum(0)
        variance = sums[:2] / rows
        if params.eps == 0:  # 0 · ∞ would be NaN; a dead channel of the teacher is enough
            variance = variance.masked_fill(variance == 0, float('inf'))
        scale = torch.rsqrt(variance + params.eps)
        return Statistics(mean, scale, sums[2] / rows * scale[0] * scale[1], total)

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        sums = []
        for level, mean, scale in self._with_statistics(statistics):
            level.standardize(mean, scale)
            sums.append(level.powers(params.alpha))
        return torch.cat(sums, 1).flatten()

    def terms(self, statistics: Statistics, gathered: Tensor | None, params: SRDParams, processes: int) -> Terms:
        rho, rows = statistics.rho, statistics.rows.clamp(min=1)
        enough = statistics.rows >= MIN_ROWS
        factor = params.alpha * processes / len(self.channels)
        if params.form == 'correlation':
            difference = rho - 1
            power = difference.abs() ** (params.alpha - 1) * difference.sign()
            inner = self._per_level(power * difference) + 1e-5
            first = statistics.scale[0] * power * factor / self._per_column(inner * rows)
            coefficients = torch.stack([first, torch.zeros_like(rho), rho])
        else:
            assert gathered is not None, 'the elementwise form has powers'
            sums = gathered.sum(0).view(3, -1)
            numel = rows * _numbers(self.channels, rows)
            inner = self._per_level(sums[0]) / numel + 1e-8
            first = statistics.scale[:1] * factor / self._per_column(inner * numel)
            coefficients = torch.cat([first, sums[1:] / self._per_column(rows)])
            if params.reduction == 'sum':
                inner = inner * numel
        value = torch.where(enough, inner.log(), torch.zeros_like(inner)).mean()
        coefficients = torch.where(self._per_column(enough), coefficients, torch.zeros_like(coefficients))
        return Terms(value, self._per_level(rho) / _numbers(self.channels, rows), coefficients)

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor,
                 upstream: Tensor | None) -> list[Tensor]:
        if params.form == 'correlation':
            for level, mean, scale in self._with_statistics(statistics):
                level.standardize(mean, scale)
        if upstream is not None:
            coefficients = torch.cat([coefficients[:1] * upstream, coefficients[1:]])
        return [level.gradient(own, params.form == 'correlation')
                for level, own in zip(self.levels, torch.split(coefficients, self.channels, 1))]

    def _with_statistics(self, statistics: Statistics) -> Iterator[tuple[_Level, Tensor, Tensor]]:
        """Each level with its means and factors (2, C)."""
        return zip(self.levels, torch.split(statistics.mean, self.channels, 1),
                   torch.split(statistics.scale, self.channels, 1))

    def _per_level(self, x: Tensor) -> Tensor:
        """Sums (levels,) of the columns (T,) of each level."""
        return torch.stack([part.sum() for part in torch.split(x, self.channels)])

    def _per_column(self, x: Tensor) -> Tensor:
        """Numbers (levels,) repeated for each column (T,) of their level."""
        return torch.cat([part.expand(n) for part, n in zip(torch.split(x, 1), self.channels)])


class _Level:
    """One level, seen as (N, C, L); N or L is 0 where other processes alone have rows of it.

    Large temporaries cost more than the arithmetic on a CPU, since the system hands out and
    takes back their pages each time. Here there are three: z, t (then d), and scratch,
    which becomes the gradient.
    """

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.shape = student.shape
        dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
        # Of the numbers per channel: float64 costs nothing on so few, and keeps large means exact.
        self.dtype = torch.float32 if student.device.type == 'mps' else torch.float64
        views = [_channel_view(x.detach()).to(dtype) for x in (student, teacher)]
        # Differences to one row are exact for constant channels, and lose nothing for those far from 0.
        empty = not student.numel()
        pilots = [x.new_zeros(1, x.size(1), 1) if empty else x[:1, :, :1].clone() for x in views]
        self.rows = [x - pilot for x, pilot in zip(views, pilots)]
        self.scratch = torch.empty_like(self.rows[0])
        offsets = pilots if empty else [x.mean((0, 2), keepdim=True) for x in self.rows]
        for x, offset in zip(self.rows, offsets):
            x -= offset
        self.mean = torch.stack([(pilot.to(self.dtype) + offset.to(self.dtype)).flatten()
                                 for pilot, offset in zip(pilots, offsets)])

    def moments(self) -> Tensor:
        a, b = self.rows
        products = [_row_sums(torch.mul(x, y, out=self.scratch)) for x, y in ((a, a), (b, b), (a, b))]
        return torch.cat([self.mean, torch.stack(products).to(self.dtype)])

    def standardize(self, mean: Tensor, scale: Tensor) -> None:
        shifts = (self.mean - mean) * scale  # not 0 where other processes have other rows
        for x, shift, factor in zip(self.rows, shifts, scale):
            torch.addcmul(_per_channel(shift, x), x, _per_channel(factor, x), out=x)

    def powers(self, alpha: float) -> Tensor:
        z, d = self.rows
        torch.sub(z, d, out=d)
        h = _signed_power(d, alpha, self.scratch)
        sums = [_row_sums(d.mul_(h)), _row_sums(h), _row_sums(torch.mul(h, z, out=d))]  # d is not needed any more
        return torch.stack(sums).to(self.dtype)

    def gradient(self, coefficients: Tensor, correlation: bool) -> Tensor:
        z, t = self.rows
        c0, c1, c2 = (_per_channel(c, z) for c in coefficients)
        h = t if correlation else self.scratch
        h -= c1
        h.addcmul_(z, c2, value=-1)
        h *= c0
        return (h.transpose(1, 2) if len(self.shape) == 3 else h).reshape(self.shape)


def _numbers(values: Sequence[int], like: Tensor) -> Tensor:
    """Return values as a vector; they are filled in on the device, because a copy from the host would wait for it."""
    return torch.cat([like.new_full((1,), value) for value in values])


def _channel_view(x: Tensor) -> Tensor:
    """Return a feature (N, C), (N, L, C) or (N, C, H, W) as (N, C, L), without a copy where strides allow."""
    if x.dim() == 3:
        return x.transpose(1, 2)
    return x.unsqueeze(2) if x.dim() == 2 else x.flatten(2)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None]


def _row_sums(x: Tensor) -> Tensor:
    return x.sum((0, 2))


def _signed_power(d: Tensor, alpha: float, out: Tensor) -> Tensor:
    """``|d| ** (alpha - 1) * sign(d)`` in ``out``."""
    if alpha == 4:
        torch.mul(d, d, out=out)
        return out.mul_(d)
    if alpha == 2:
        return out.copy_(d)
    torch.abs(d, out=out)
    return out.pow_(alpha - 1).mul_(d.sign())  # 0 ** 0 is 1, and sign makes it 0
