"""What a backend of the SRD loss computes: three passes over the features, with numbers per channel in between."""
from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..utils.tensors import channel_dim


class SRDParams(NamedTuple):
    """Arguments of :class:`mmsrd.SRDLoss`, under the same names."""

    alpha: float = 4.0
    form: str = 'elementwise'
    reduction: str = 'mean'
    eps: float = 1e-4
    sync: bool = True


class Statistics(NamedTuple):
    """How to standardise: ``(x - mean) * scale`` per channel.

    Attributes:
        mean: Of student and teacher (2, C).
        scale: ``1 / sqrt(variance + eps)`` of both (2, C); 0 for constant channels at eps 0.
    """

    mean: Tensor
    scale: Tensor


class SRDBackend(Protocol):
    """Passes over student rows a and teacher rows b of one process.

    With z and t the standardised rows, ``d = z - t`` and ``h = |d| ** (alpha - 1) * sign(d)``.
    The methods are called in the order below, each at most once; ``powers`` for the
    elementwise form only.

    Attributes:
        recomputes: Whether :meth:`gradient` starts from the features again, so that it can wait until backward.
    """

    recomputes: bool

    def moments(self) -> Tensor:
        """Mean of a and b, and sums over the rows of their centred squares and product: (5, C), float64."""

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """Sums over the rows of ``h * d`` (which is ``|d| ** alpha``), ``h``, and ``h * z``: (3, C), float64."""

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor) -> Tensor:
        """``c0 * (h - c1 - z * c2)`` with coefficients (3, C); in the correlation form t in place of h.

        Returns:
            Tensor: In the shape of the student's feature; in its dtype, or a wider one unless :attr:`recomputes`.
        """


class EmptyBackend:
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
        """See :class:`SRDBackend`."""
        return torch.zeros(5, self.channels, dtype=channel_dtype(self.student.device), device=self.student.device)

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """See :class:`SRDBackend`."""
        return torch.zeros_like(self.moments()[:3])

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor) -> Tensor:
        """See :class:`SRDBackend`."""
        return torch.empty_like(self.student)


def channel_view(x: Tensor) -> Tensor:
    """A feature (N, C), (N, L, C) or (N, C, H, W) as (N, C, L), without a copy where strides allow."""
    if x.dim() == 3:
        return x.transpose(1, 2)
    return x.unsqueeze(2) if x.dim() == 2 else x.flatten(2)


def channel_dtype(device: torch.device) -> torch.dtype:
    """Dtype of the numbers per channel: float64 costs nothing on so few, and keeps large means exact."""
    return torch.float32 if device.type == 'mps' else torch.float64
