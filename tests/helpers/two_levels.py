"""A student of two levels that loses something at each, and blocks that distil an average of itself into it."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import mmsrd
from mmsrd.distillers import ProjectorDistiller


class TwoLevels(nn.Module):
    """Loses the mean square of what its head makes of each level.

    Args:
        blind: Levels that cost it nothing.
        overwrite: Whether it writes into what its backbone returns.

    Attributes:
        share: Factor of its loss: images of this process × processes / all images, where processes differ.
    """

    def __init__(self, blind: tuple[int, ...] = (), overwrite: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3)
        self.neck = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)])
        self.head = nn.Conv2d(4, 2, 1)
        self.blind = blind
        self.overwrite = overwrite
        self.share = 1.0

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        x = self.backbone(inputs)
        if self.overwrite:
            x += 1
        levels = [layer(x) for layer in self.neck]
        if mode != 'loss':
            return levels
        costs = [self.head(level).square().sum() / max(len(inputs), 1) * (0 if i in self.blind else self.share)
                 for i, level in enumerate(levels)]
        return dict(loss=sum(costs))


def loss(path: str, **options: Any) -> dict[str, Any]:
    """A loss on the same module of both."""
    return dict(student=path, teacher=path, **options)


def block(**losses: Any) -> dict[str, Any]:
    """A ``distill`` block."""
    return dict(teacher=dict(ema=dict(momentum=0.5)), losses=losses)


def attached(distill: dict[str, Any], model: nn.Module | None = None) -> tuple[nn.Module, ProjectorDistiller]:
    """A student, seeded, that has moved away from its average since the distiller was attached."""
    torch.manual_seed(0)
    model = model or TwoLevels()
    distiller = mmsrd.attach(model, distill)
    distiller.update_ema(model)
    with torch.no_grad():
        for parameter in model.neck.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, distiller


def total(losses: dict[str, Tensor]) -> Tensor:
    """What MMEngine minimises."""
    return sum(value for key, value in losses.items() if 'loss' in key)


def steps(model: nn.Module, images: Tensor, count: int = 3, scale: float = 1.0) -> dict[str, Tensor]:
    """Train by gradient descent; the gradients of the last step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    gradients = {}
    for _ in range(count):
        optimizer.zero_grad()
        (total(model(images, mode='loss')) * scale).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parameter.grad /= scale
                gradients[name] = parameter.grad.clone()
        optimizer.step()
    return gradients
