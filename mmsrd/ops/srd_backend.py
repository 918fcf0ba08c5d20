"""Interface of a backend of the SRD loss: passes over the features, with numbers per channel in between."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Sequence

from torch import Tensor

MIN_ROWS = 4
"""Rows that a level must have; with fewer, its loss and gradient are zero.

Mean and variance of each channel take two degrees of freedom: two rows are -1 and 1 whatever they were, and the
gradient is that of ``eps``. From four rows on the gradient's norm falls with ``1 / sqrt(rows)``, as that of any mean
over a batch does (``tests/test_models/test_few_rows.py``).
"""


class SRDParams(NamedTuple):
    """Arguments of :class:`mmsrd.SRDLoss`, under the same names and with the same defaults."""

    alpha: float = 4.0
    form: str = 'elementwise'
    reduction: str = 'mean'
    eps: float = 1e-4
    sync: bool = True


class Statistics(NamedTuple):
    """Statistics that standardise a channel by ``(x - mean) * scale``, in T columns for all levels.

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
    """Value of the loss, and the coefficients of its gradient.

    Attributes:
        value: Mean of the levels' losses, a scalar.
        alignment: Mean rho of each level (levels,).
        coefficients: Of :meth:`SRDBackend.gradient`, (3, T).
    """

    value: Tensor
    alignment: Tensor
    coefficients: Tensor


class SRDBackend(ABC):
    """Passes over the student rows a and teacher rows b that one process has of some levels.

    With z and t the standardised rows, ``d = z - t`` and ``h = |d| ** (alpha - 1) * sign(d)``. Numbers per channel
    stand side by side for all levels, in T columns. The methods are called in the order below, each at most once;
    :meth:`powers` for the elementwise form only.

    Args:
        students: Levels (N, C), (N, L, C) or (N, C, H, W), of any floating dtype, all on one device.
        teachers: Levels of the same shapes.

    Attributes:
        recomputes: Whether :meth:`gradient` starts from the features again, so that it can wait until backward.
    """

    recomputes: ClassVar[bool]

    @abstractmethod
    def __init__(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        ...

    @abstractmethod
    def moments(self) -> Tensor:
        """Return means of a and b, sums over the rows of their centred squares and product: 5 · T numbers, then the
        number of rows of each level; (5 · T + levels,), float64."""

    @abstractmethod
    def statistics(self, gathered: Tensor, params: SRDParams) -> Statistics:
        """Return the statistics of all processes, from their :meth:`moments` (processes, 5 · T + levels)."""

    @abstractmethod
    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """Return sums over the rows of ``h * d`` (that is ``|d| ** alpha``), ``h``, ``h * z``: (3 · T,), float64."""

    @abstractmethod
    def terms(self, statistics: Statistics, gathered: Tensor | None, params: SRDParams, processes: int) -> Terms:
        """Return value and coefficients.

        Args:
            statistics: Of all processes.
            gathered: :meth:`powers` of all processes (processes, 3 · T); None for the correlation form.
            params: Arguments of the loss.
            processes: Number of processes that share the loss.
        """

    @abstractmethod
    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor,
                 upstream: Tensor | None) -> list[Tensor]:
        """Return ``c0 * (h - c1 - z * c2)``; in the correlation form, with t for h.

        Args:
            statistics: Of all processes.
            params: Arguments of the loss.
            coefficients: c0, c1 and c2 (3, T).
            upstream: Gradient of the loss, a scalar by which the result is multiplied; None for 1.

        Returns:
            list: A gradient for each level in the shape of the student's feature; in its dtype, or a wider one unless
            :attr:`recomputes`.
        """
