"""The SRD backend in Triton: each kernel reads both features once, and nothing of their size is kept."""
from __future__ import annotations

from typing import Any, ContextManager

import torch
import triton
from torch import Tensor

from . import triton_kernels as K
from .base_backend import SRDParams, Statistics, channel_view

_TILE = 4096
"""Elements of a tile: 16 to 32 per thread of 4 warps or 8, enough loads in flight to fill the memory's pipeline."""
_TILES_PER_PROGRAM = 4


class Layout:
    """Features of one shape as (batch, channels, rows), and how a grid of programs covers them."""

    def __init__(self, *features: Tensor) -> None:
        views = [channel_view(x) for x in features]
        if all(x.size(0) == 1 or x.size(2) == 1 or x.stride(0) == x.size(2) * x.stride(2) for x in views):
            # Rows of all batch elements are equally far apart (channels last, vectors): one long batch element.
            views = [x.as_strided((1, x.size(1), x.size(0) * x.size(2)),
                                  (0, x.stride(1), x.stride(2) if x.size(2) > 1 else x.stride(0))) for x in views]
        self.views = views
        self.batches, self.channels, self.length = views[0].shape
        rows, channels = (triton.next_power_of_2(n) for n in (self.length, self.channels))
        if any(x.stride(1) == 1 for x in views):  # 64 neighbouring channels fill a cache line
            self.bc = min(64, channels)
            self.br = min(_TILE // self.bc, rows)
        else:
            self.br = min(1024, rows)
            self.bc = min(_TILE // self.br, channels)
        self.chunk = self.br * _TILES_PER_PROGRAM
        self.chunks = triton.cdiv(self.length, self.chunk)
        self.slots = self.batches * self.chunks

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.length, self.chunks

    @property
    def strides(self) -> list[int]:
        return [stride for view in self.views for stride in view.stride()]

    @property
    def grid(self) -> tuple[int, int]:
        return self.slots, triton.cdiv(self.channels, self.bc)

    @property
    def blocks(self) -> dict[str, int]:
        return dict(BC=self.bc, BR=self.br, CHUNK=self.chunk)


def _device_of(x: Tensor) -> ContextManager[Any]:
    """Triton launches on the current device, which need not be that of the features."""
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]


class TritonBackend:
    """Computes in float32 from features of any floating dtype and strides.

    Args:
        student: Feature (N, C), (N, L, C) or (N, C, H, W).
        teacher: Feature of the same shape, on the same device.
    """

    recomputes = True

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        # Maps whose rows are not equally far apart (a crop) cannot be seen as (N, C, L).
        self.features = [x if channel_view(x).data_ptr() == x.data_ptr() else x.contiguous()
                         for x in (student.detach(), teacher.detach())]
        self.layout = Layout(*self.features)

    def moments(self) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        x, (a, b) = self.layout, self.features
        partial = torch.empty(x.slots, 5, x.channels, dtype=torch.float32, device=a.device)
        out = torch.empty(5, x.channels, dtype=torch.float64, device=a.device)
        strides = [view.stride(1) for view in x.views]
        with _device_of(a):
            K.moments_kernel[x.grid](a, b, partial, *x.shape, *x.strides, **x.blocks)
            K.combine_kernel[(triton.cdiv(x.channels, 16),)](
                a, b, partial, out, *x.shape, x.slots, *strides, BC=16, BS=32, CHUNK=x.chunk)
        return out

    def powers(self, statistics: Statistics, params: SRDParams) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        x, (a, b) = self.layout, self.features
        partial = torch.empty(x.slots, 3, x.channels, dtype=torch.float32, device=a.device)
        mean, scale = (s.contiguous() for s in statistics)
        with _device_of(a):
            K.powers_kernel[x.grid](a, b, mean, scale, partial, *x.shape, *x.strides, ALPHA=params.alpha, **x.blocks)
        return partial.sum(0, dtype=torch.float64)

    def gradient(self, statistics: Statistics, params: SRDParams, coefficients: Tensor) -> Tensor:
        """See :class:`mmsrd.ops.SRDBackend`."""
        a, b = self.features
        out = torch.empty_like(a)
        x = Layout(a, b, out)
        mean, scale = (s.contiguous() for s in statistics)
        with _device_of(a):
            K.gradient_kernel[x.grid](a, b, mean, scale, coefficients.contiguous(), out, *x.shape, *x.strides,
                                      ALPHA=params.alpha, CORRELATION=params.form == 'correlation', **x.blocks)
        return out
