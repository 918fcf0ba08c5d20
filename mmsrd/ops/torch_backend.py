"""The SRD backend in PyTorch's own operators, for any device: three temporaries, reused in place."""
from __future__ import annotations

import torch
from torch import Tensor

from .base_backend import SRDParams, Statistics, channel_dtype, channel_view


class TorchBackend:
    """Keeps the standardised features from one pass to the next; the gradient replaces them in forward.

    Large temporaries cost more than the arithmetic on a CPU, since the system hands out and
    takes back their pages each time. Here there are three: z, t (then d), and scratch,
    which becomes the gradient.

    Args:
        student: Feature (N, C), (N, L, C) or (N, C, H, W).
        teacher: Feature of the same shape.
    """

    recomputes = False

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.student = student
        dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
        self.dtype = channel_dtype(student.device)
        views = [channel_view(x.detach()).to(dtype) for x in (student, teacher)]
        # Differences to one row are exact for constant channels, and lose nothing for those far from 0.
        pilots = [x[:1, :, :1].clone() for x in views]
        self.rows = [x - pilot for x, pilot in zip(views, pilots)]
        self.scratch = torch.empty_like(self.rows[0])
        offsets = [_mean(x) for x in self.rows]
        for x, offset in zip(self.rows, offsets):
            x -= offset
        self.mean = torch.stack([(pilot.to(self.dtype) + offset.to(self.dtype)).flatten()
                                 for pilot, offset in zip(pilots, offsets)])

    def moments(self) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        a, b = self.rows
        products = [_sum(torch.mul(x, y, out=self.scratch)) for x, y in ((a, a), (b, b), (a, b))]
        return torch.cat([self.mean, torch.stack(products).to(self.dtype)])

    def _standardise(self, statistics: Statistics) -> None:
        moved = (self.mean - statistics.mean) * statistics.scale  # not 0 where other processes have other rows
        for x, offset, scale in zip(self.rows, moved, statistics.scale):
            torch.addcmul(_per_channel(offset, x), x, _per_channel(scale, x), out=x)

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        self._standardise(statistics)
        z, d = self.rows
        torch.sub(z, d, out=d)
        h = _signed_power(d, params.alpha, self.scratch)
        sums = [_sum(d.mul_(h)), _sum(h), _sum(torch.mul(h, z, out=d))]  # d is not needed any more
        return torch.stack(sums).to(self.dtype)

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        if params.form == 'correlation':
            self._standardise(statistics)
        z, t = self.rows
        c0, c1, c2 = (_per_channel(c, z) for c in coefficients)
        h = t if params.form == 'correlation' else self.scratch
        h -= c1
        h.addcmul_(z, c2, value=-1)
        h *= c0
        return (h.transpose(1, 2) if self.student.dim() == 3 else h).reshape(self.student.shape)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None]


def _sum(x: Tensor) -> Tensor:
    return x.sum((0, 2))


def _mean(x: Tensor) -> Tensor:
    return x.mean((0, 2), keepdim=True)


def _signed_power(d: Tensor, alpha: float, out: Tensor) -> Tensor:
    """``|d| ** (alpha - 1) * sign(d)`` in ``out``."""
    if alpha == 4:
        torch.mul(d, d, out=out)
        return out.mul_(d)
    if alpha == 2:
        return out.copy_(d)
    torch.abs(d, out=out)
    return out.pow_(alpha - 1).mul_(d.sign())  # 0 ** 0 is 1, and sign makes it 0
