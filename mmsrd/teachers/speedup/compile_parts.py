"""Compile a model around its recorded modules."""
from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import nn


def compile_parts(model: nn.Module, called: set[nn.Module], recorded: set[nn.Module],
                  options: Mapping[str, Any]) -> list[nn.Module]:
    """Compile the largest modules that have no recorded module inside, so that hooks stay outside of the graphs.

    Args:
        model: Whose parts.
        called: Modules that its forward pass calls.
        recorded: Modules with hooks.
        options: Arguments of ``torch.compile``.

    Returns:
        list: What has been compiled.
    """
    compiled = []
    for child in model.children():
        inside = set(child.modules()) - {child}
        if child in called and not inside & recorded and inside:
            child.forward = torch.compile(child.forward, **options)
            compiled.append(child)
        else:
            compiled += compile_parts(child, called, recorded, options)
    return compiled
