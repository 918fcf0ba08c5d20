"""Pooling and resizing of features."""
from __future__ import annotations

import torch

from mmsrd.utils.tensors import pool_rows, resize_map


def test_pooling_and_resizing():
    x = torch.arange(32, dtype=torch.float64).reshape(2, 1, 4, 4)
    assert torch.equal(pool_rows(x), x.flatten(2).mean(2))
    assert torch.equal(pool_rows(x.flatten(2).transpose(1, 2)), pool_rows(x))
    # Shrinking by two is the mean of each 2×2 block.
    assert torch.allclose(resize_map(x, (2, 2))[0, 0, 0, 0], x[0, 0, :2, :2].mean())
    assert resize_map(x, (8, 8)).shape == (2, 1, 8, 8)
    assert resize_map(x, (4, 4)) is x
