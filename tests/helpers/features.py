"""Pairs of features to compare."""
from __future__ import annotations

import torch

SHAPES = [(16, 5), (3, 7, 5), (2, 5, 4, 3)]
"""Vectors, tokens and maps."""


def feature_pair(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two badly scaled, partly related features."""
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 10
    t = 0.4 * s + torch.randn(shape, generator=generator, dtype=torch.float64) - 5
    return s.to(dtype), t.to(dtype)
