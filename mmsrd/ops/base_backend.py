"""What a backend of the SRD loss computes: three passes over the features, with numbers per channel in between."""
from __future__ import annotations

from typing import NamedTuple, Protocol, Sequence

import torch
from torch import Tensor

from .channel_terms import Statistics, Terms


class SRDParams(NamedTuple):
    """Arguments of :class:`mmsrd.SRDLoss`, under the same names."""

    alpha: float = 4.0
    form: str = 'elementwise'
    reduction: str = 'mean'
    eps: float = 1e-4
    sync: bool = True


class SRDBackend(Protocol):
    """Passes over the student rows a and teacher rows b that one process has of some levels.

    With z and t the standardised rows, ``d = z - t`` and ``h = |d| ** (alpha - 1) * sign(d)``. Numbers per channel
    stand side by side for all levels, in T columns. The methods are called in the order below, each at most once;
    :meth:`powers` for the elementwise form only.

    Attributes:
        recomputes: Whether :meth:`gradient` starts from the features again, so that it can wait until backward.
    """

    recomputes: bool

    def __init__(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        """Levels of one device; student and teacher level have one shape (N, C), (N, L, C) or (N, C, H, W)."""

    def moments(self) -> Tensor:
        """Means of a and b, sums over the rows of their centred squares and product: 5 · T numbers, then the number
        of rows of each level; (5 · T + levels,), float64."""

    def statistics(self, gathered: Tensor, params: SRDParams) -> Statistics:
        """Of all processes together, from their :meth:`moments` (processes, 5 · T + levels)."""

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """Sums over the rows of ``h * d`` (which is ``|d| ** alpha``), ``h``, and ``h * z``: (3 · T,), float64."""

    def terms(self, statistics: Statistics, gathered: Tensor | None, params: SRDParams, processes: int) -> Terms:
        """Value and coefficients, from the :meth:`powers` of all processes (processes, 3 · T)."""

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor,
                 upstream: Tensor | None) -> list[Tensor]:
        """``c0 * (h - c1 - z * c2)`` with coefficients (3, T), times ``upstream``; t for h in the correlation form.

        Returns:
            list: A gradient for each level in the shape of the student's feature; in its dtype, or a wider one unless
            :attr:`recomputes`.
        """


def channel_view(x: Tensor) -> Tensor:
    """A feature (N, C), (N, L, C) or (N, C, H, W) as (N, C, L), without a copy where strides allow."""
    if x.dim() == 3:
        return x.transpose(1, 2)
    return x.unsqueeze(2) if x.dim() == 2 else x.flatten(2)


def channel_dtype(device: torch.device) -> torch.dtype:
    """Dtype of the numbers per channel: float64 costs nothing on so few, and keeps large means exact."""
    return torch.float32 if device.type == 'mps' else torch.float64
