"""The SRD backend in Triton: each pass reads the features of all levels once, and nothing of their size is kept.

For five levels of two layouts that is ten launches, forward and backward together.
"""
from __future__ import annotations

import functools
from typing import Any, ContextManager, Sequence

import torch
import triton
from torch import Tensor

from ..utils.tensors import channel_dim
from . import triton_kernels as kernels
from .srd_backend import MIN_ROWS, SRDBackend, SRDParams, Statistics, Terms
from .triton_level_table import Group, LevelTable, shape_and_strides

TYPES = {torch.float16: 'fp16', torch.bfloat16: 'bf16', torch.float32: 'fp32', torch.float64: 'fp64'}
BC, BS = 8, 256
"""Channels and slots of a tile between the passes; 8 float32 fill a sector of the cache."""
BC_OF_TERMS = 512


def _device_of(x: Tensor) -> ContextManager[Any]:
    """Make the device of the features the current one, on which Triton launches."""
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]


class TritonBackend(SRDBackend):
    """Computes in float32 from features of any floating dtype and strides."""

    recomputes = True

    def __init__(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        # Where rows are not equally far apart, a copy; its gradient cannot have the strides of the student either.
        self.students, self.teachers = ([x if shape_and_strides(x) else x.contiguous() for x in side]
                                        for side in (students, teachers))
        self.channels = [x.size(channel_dim(x)) for x in students]
        self.width = sum(self.channels)

    @functools.cached_property
    def table(self) -> LevelTable:
        """Table of the two forward passes; the backward pass has its own, with the addresses of gradients, too."""
        return LevelTable(self.students, self.teachers)

    def moments(self) -> Tensor:
        partial = self._empty(7 * self.table.layout.partials, dtype=torch.float32)
        out = self._empty(5 * self.width + len(self.channels))
        with _device_of(out):
            self._over_features(kernels.moments_kernel, self.table, partial)
            kernels.combine_kernel[self._grid](self.table.tensor, partial, out, self.width, BC=BC, BS=BS)
        return out

    def statistics(self, gathered: Tensor, params: SRDParams) -> Statistics:
        levels = len(self.channels)
        out = self._empty(5 * self.width + levels)
        with _device_of(out):
            kernels.statistics_kernel[self._grid](self.table.tensor, gathered, out, self.width, levels, len(gathered),
                                                  params.eps, BC=BC)
        numbers = out[:5 * self.width].view(5, self.width)
        return Statistics(numbers[:2], numbers[2:4], numbers[4], out[5 * self.width:])

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        partial = self._empty(3 * self.table.layout.partials, dtype=torch.float32)
        out = self._empty(3 * self.width)
        with _device_of(out):
            self._over_features(kernels.powers_kernel, self.table, statistics.mean, statistics.scale, partial,
                                width=self.width, ALPHA=params.alpha)
            kernels.sums_kernel[self._grid](self.table.tensor, partial, out, self.width, BC=BC, BS=BS)
        return out

    def terms(self, statistics: Statistics, gathered: Tensor | None, params: SRDParams, processes: int) -> Terms:
        coefficients, out = self._empty(3, self.width), self._empty(1 + len(self.channels))
        # ``mean`` is a view of the start of the buffer that holds all statistics; the kernel reads the rest behind it.
        # The correlation form does not read ``sums``.
        sums = statistics.mean if gathered is None else gathered
        with _device_of(out):
            kernels.terms_kernel[(1,)](
                self.table.tensor, statistics.mean, sums, coefficients, out, self.width, len(self.channels), len(sums),
                params.alpha * processes, ALPHA=params.alpha, CORRELATION=params.form == 'correlation',
                SUM=params.reduction == 'sum' and params.form != 'correlation', BC=BC_OF_TERMS, MIN_ROWS=MIN_ROWS)
        return Terms(out[0], out[1:], coefficients)

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor,
                 upstream: Tensor | None) -> list[Tensor]:
        assert upstream is not None, 'the gradient is made in the backward pass'
        gradients = [torch.empty_like(x) for x in self.students]
        with _device_of(coefficients):
            self._over_features(
                kernels.gradient_kernel, LevelTable(self.students, self.teachers, gradients), statistics.mean,
                statistics.scale, coefficients, upstream, width=self.width, ALPHA=params.alpha,
                CORRELATION=params.form == 'correlation')
        return gradients

    def _empty(self, *size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=self.students[0].device)

    @property
    def _grid(self) -> tuple[int, int]:
        return triton.cdiv(max(self.channels), BC), len(self.channels)

    @staticmethod
    def _over_features(kernel: Any, table: LevelTable, *tensors: Tensor, **constants: Any) -> None:
        """Launch a kernel for each group of levels."""
        for group, rows in zip(table.layout.groups, table.group_rows):
            if group.programs:  # this process may have no rows, while others have some
                kernel[(group.programs,)](rows, *tensors, levels=group.levels, **constants,
                                          **_constants(group))


@functools.lru_cache(maxsize=256)
def _constants(group: Group) -> dict[str, Any]:
    """Return the constants that a kernel over the features is compiled for."""
    known = dict(zip(('A_ALONG', 'B_ALONG', 'OUT_ALONG'), group.along))
    (a, b), (bc, br) = group.types, group.tile
    return dict(known, A_TYPE=TYPES[a], B_TYPE=TYPES[b], ALIGN=group.align, BC=bc, BR=br)
