"""Hooks that a runner adds by itself."""
from __future__ import annotations

from typing import Any, Iterable

from mmengine.hooks import Hook


def register_missing(runner: Any, hooks: Iterable[Hook]) -> None:
    """Register hooks of which the runner has no other of the same class, as a config may have named one itself.

    Args:
        runner: A runner of MMEngine.
        hooks: The hooks.
    """
    for hook in hooks:
        if not any(isinstance(other, type(hook)) for other in runner.hooks):
            runner.register_hook(hook)
