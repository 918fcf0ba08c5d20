"""The SRD backend in PyTorch's own operators, for any device: three temporaries, reused in place."""
from __future__ import annotations

from typing import Iterator, Sequence

import torch
from torch import Tensor

from ..utils.tensors import channel_dim, num_rows
from .base_backend import SRDParams, channel_dtype, channel_view
from .channel_terms import Statistics, Terms, statistics_of, terms_of


class TorchBackend:
    """Keeps the standardised features from one pass to the next; the gradient replaces them in forward.

    Args:
        students: Levels (N, C), (N, L, C) or (N, C, H, W).
        teachers: Levels of the same shapes.
    """

    recomputes = False

    def __init__(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        self.levels = [_Level(s, t) if s.numel() else _EmptyLevel(s) for s, t in zip(students, teachers)]
        self.channels = [level.channels for level in self.levels]
        self.rows = [num_rows(s) for s in students]

    def moments(self) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        moments = torch.cat([level.moments() for level in self.levels], 1)
        return torch.cat([moments.flatten(), moments.new_tensor(self.rows)])

    def statistics(self, gathered: Tensor, params: SRDParams) -> Statistics:
        """See :class:`mmsrd.ops.SRDBackend`."""
        return statistics_of(gathered, self.channels, params)

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        sums = [level.powers(mean, scale, params.alpha) for level, mean, scale in self._with(statistics)]
        return torch.cat(sums, 1).flatten()

    def terms(self, statistics: Statistics, gathered: Tensor | None, params: SRDParams, processes: int) -> Terms:
        """See :class:`mmsrd.ops.SRDBackend`."""
        return terms_of(statistics, gathered, self.channels, params, processes)

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor,
                 upstream: Tensor | None) -> list[Tensor]:
        """See :class:`mmsrd.ops.SRDBackend`."""
        if params.form == 'correlation':
            for level, mean, scale in self._with(statistics):
                level.standardise(mean, scale)
        if upstream is not None:
            coefficients = torch.cat([coefficients[:1] * upstream, coefficients[1:]])
        return [level.gradient(own, params.form == 'correlation')
                for level, own in zip(self.levels, self._split(coefficients))]

    def _split(self, x: Tensor) -> list[Tensor]:
        return list(torch.split(x, self.channels, 1))

    def _with(self, statistics: Statistics) -> Iterator[tuple[_Level | _EmptyLevel, Tensor, Tensor]]:
        """Each level with its means and factors (2, C)."""
        return zip(self.levels, self._split(statistics.mean), self._split(statistics.scale))


class _Level:
    """One level.

    Large temporaries cost more than the arithmetic on a CPU, since the system hands out and
    takes back their pages each time. Here there are three: z, t (then d), and scratch,
    which becomes the gradient.
    """

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.student = student
        self.channels = student.size(channel_dim(student))
        dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
        self.dtype = channel_dtype(student.device)
        views = [channel_view(x.detach()).to(dtype) for x in (student, teacher)]
        # Differences to one row are exact for constant channels, and lose nothing for those far from 0.
        pilots = [x[:1, :, :1].clone() for x in views]
        self.rows = [x - pilot for x, pilot in zip(views, pilots)]
        self.scratch = torch.empty_like(self.rows[0])
        offsets = [x.mean((0, 2), keepdim=True) for x in self.rows]
        for x, offset in zip(self.rows, offsets):
            x -= offset
        self.mean = torch.stack([(pilot.to(self.dtype) + offset.to(self.dtype)).flatten()
                                 for pilot, offset in zip(pilots, offsets)])

    def moments(self) -> Tensor:
        a, b = self.rows
        products = [_sum(torch.mul(x, y, out=self.scratch)) for x, y in ((a, a), (b, b), (a, b))]
        return torch.cat([self.mean, torch.stack(products).to(self.dtype)])

    def standardise(self, mean: Tensor, scale: Tensor) -> None:
        moved = (self.mean - mean) * scale  # not 0 where other processes have other rows
        for x, offset, factor in zip(self.rows, moved, scale):
            torch.addcmul(_per_channel(offset, x), x, _per_channel(factor, x), out=x)

    def powers(self, mean: Tensor, scale: Tensor, alpha: float) -> Tensor:
        self.standardise(mean, scale)
        z, d = self.rows
        torch.sub(z, d, out=d)
        h = _signed_power(d, alpha, self.scratch)
        sums = [_sum(d.mul_(h)), _sum(h), _sum(torch.mul(h, z, out=d))]  # d is not needed any more
        return torch.stack(sums).to(self.dtype)

    def gradient(self, coefficients: Tensor, correlation: bool) -> Tensor:
        z, t = self.rows
        c0, c1, c2 = (_per_channel(c, z) for c in coefficients)
        h = t if correlation else self.scratch
        h -= c1
        h.addcmul_(z, c2, value=-1)
        h *= c0
        return (h.transpose(1, 2) if self.student.dim() == 3 else h).reshape(self.student.shape)


class _EmptyLevel:
    """A level of which this process has no rows, while others have some."""

    def __init__(self, student: Tensor) -> None:
        self.student = student
        self.channels = student.size(channel_dim(student))

    def moments(self) -> Tensor:
        return torch.zeros(5, self.channels, dtype=channel_dtype(self.student.device), device=self.student.device)

    def standardise(self, mean: Tensor, scale: Tensor) -> None:
        pass

    def powers(self, mean: Tensor, scale: Tensor, alpha: float) -> Tensor:
        return torch.zeros_like(self.moments()[:3])

    def gradient(self, coefficients: Tensor, correlation: bool) -> Tensor:
        return torch.empty_like(self.student)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None]


def _sum(x: Tensor) -> Tensor:
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
