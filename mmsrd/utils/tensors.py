"""Shapes and dtypes of features: which dimension has the channels, and how positions are pooled or resized.

A feature has one channel dimension; every other position is a row: N rows for
(N, C), N·H·W for (N, C, H, W), N·L for tokens (N, L, C).
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upcast(x: Tensor) -> Tensor:
    """``x`` in at least float32; float32 and float64 come back as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def channel_dim(x: Tensor) -> int:
    """Channel dimension of a feature: 1 for (N, C) and (N, C, H, W), 2 for tokens (N, L, C)."""
    return 2 if x.dim() == 3 else 1


def num_rows(x: Tensor) -> int:
    """Rows of a feature in this process: all positions of all samples."""
    return x.numel() // max(x.size(channel_dim(x)), 1)


def pool_rows(x: Tensor) -> Tensor:
    """Mean over positions: (N, C, H, W) or (N, L, C) → (N, C); (N, C) comes back as it is."""
    if x.dim() == 4:
        return x.mean((2, 3))
    return x.mean(1) if x.dim() == 3 else x


def resize_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (N, C, H, W) to ``size``: area average where no side grows, else bilinear interpolation."""
    if x.shape[-2:] == size:
        return x
    if size[0] <= x.size(-2) and size[1] <= x.size(-1):
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)
