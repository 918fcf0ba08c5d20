"""Models that tests build."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmsrd.teachers.build_model import build_model
from mmsrd.utils.zoo import load_config


def build_zoo(name: str) -> nn.Module:
    """The model of a zoo config (``package::name``), with the weights that building gives it."""
    return build_model(load_config(name, 'config'), 'config')


def with_random_norms(model: nn.Module) -> nn.Module:
    """Statistics and weights of normalisation as a trained model might have them; in eval() and frozen."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5),
                                     (module.weight, 0.5, 1.5), (module.bias, -0.2, 0.2)):
                if value is not None:
                    value.data.uniform_(low, high, generator=generator)
    return model.eval().requires_grad_(False)


def hooks_of(model: nn.Module) -> dict[tuple[str, str], list[Any]]:
    """All hooks of all modules and parameters, by name and kind."""
    found = {(name, kind): getattr(owner, kind, None) for name, owner in (
        *model.named_modules(), *model.named_parameters()) for kind in dir(owner) if 'hooks' in kind}
    return {place: list(hooks.values()) for place, hooks in found.items() if isinstance(hooks, dict) and hooks}
