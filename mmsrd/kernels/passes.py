"""What a backend computes: three passes over a student and a teacher feature, numbers per channel in between."""
from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..functional import channel_dim


class Statistics(NamedTuple):
    """How to standardise: ``(x - mean) * scale`` per channel.

    Attributes:
        mean: Of student and teacher (2, C).
        scale: ``1 / sqrt(variance + eps)`` of both (2, C); 0 for constant channels at eps 0.
    """

    mean: Tensor
    scale: Tensor


class Passes(Protocol):
    """Passes over student rows a and teacher rows b of one process.

    With z and t the standardised rows, ``d = z - t`` and ``h = |d| ** (alpha - 1) * sign(d)``.
    Called in this order, each at most once.

    Attributes:
        recomputes: Whether :meth:`gradient` starts from the features again, so that it can wait until backward.
    """

    recomputes: bool

    def moments(self) -> Tensor:
        """Mean of a and b, and sums over the rows of their centred squares and product: (5, C), float64."""

    def powers(self, statistics: Statistics, alpha: float) -> Tensor:
        """Sums over the rows of ``h * d`` (which is ``|d| ** alpha``), ``h``, and ``h * z``: (3, C), float64."""

    def gradient(self, statistics: Statistics, alpha: float | None, coefficients: Tensor) -> Tensor:
        """``c0 * (h - c1 - z * c2)`` with coefficients (3, C); t in place of h where alpha is None.

        Returns:
            Tensor: In the shape of the student's feature; in its dtype, or a wider one unless :attr:`recomputes`.
        """


class NoRows:
    """The passes of a process that has no rows, while others have some.

    Args:
        student: Feature without elements.
        teacher: Feature of the same shape.
    """

    recomputes = True

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.student = student
        self.channels = student.size(channel_dim(student))

    def moments(self) -> Tensor:
        """See :class:`Passes`."""
        return torch.zeros(5, self.channels, dtype=glue_dtype(self.student.device), device=self.student.device)

    def powers(self, statistics: Statistics, alpha: float) -> Tensor:
        """See :class:`Passes`."""
        return torch.zeros_like(self.moments()[:3])

    def gradient(self, statistics: Statistics, alpha: float | None, coefficients: Tensor) -> Tensor:
        """See :class:`Passes`."""
        return torch.empty_like(self.student)


def channel_view(x: Tensor) -> Tensor:
    """A feature (N, C), (N, L, C) or (N, C, H, W) as (N, C, L), without a copy where strides allow."""
    if x.dim() == 3:
        return x.transpose(1, 2)
    return x.unsqueeze(2) if x.dim() == 2 else x.flatten(2)


def glue_dtype(device: torch.device) -> torch.dtype:
    """Type of the numbers per channel: float64 costs nothing on so few, and keeps large means exact."""
    return torch.float32 if device.type == 'mps' else torch.float64
