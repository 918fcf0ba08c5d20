"""Models in MMEngine's calling convention that do one thing that real models do, too."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Has a shared head and an unused module, and draws random numbers.

    Args:
        side: The one size of images that it takes; None for any.
    """

    def __init__(self, side: int | None = None) -> None:
        super().__init__()
        self.side = side
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 2, 1)
        self.unused = nn.Conv2d(4, 2, 1)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> list[Tensor]:
        if self.side and inputs.shape[-1] != self.side:
            raise ValueError(f'only {self.side} pixels')
        x = self.norm(self.stem(inputs + torch.rand_like(inputs)))
        return [self.head(level) for level in (x, x[..., ::2, ::2])]


class Residual(nn.Module):
    """Writes into the output of its normalisation, as ResNet blocks do, and has a module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.shared = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, 3, 1)])])
        self.alias = nn.ModuleList([self.shared[0][0]])

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Tensor:
        out = self.norm(inputs)
        out += 10
        return self.alias[0](out)


class Squeezing(nn.Module):
    """Makes a vector of the feature of a batch of one, as LeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.AdaptiveAvgPool2d(1)
        self.squeezed = nn.Identity()

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Tensor:
        return self.squeezed(self.last(inputs).squeeze())
