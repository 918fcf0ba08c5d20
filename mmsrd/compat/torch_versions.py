"""Differences between versions of PyTorch; each entry says which version makes it unnecessary."""
from __future__ import annotations

import contextlib
import importlib
from typing import Any, Callable, ContextManager, TypeVar

import torch
from mmengine.utils import digit_version
from torch import nn
from torch.utils.hooks import RemovableHandle

FunctionT = TypeVar('FunctionT', bound=Callable[..., Any])


TORCH: tuple[int, int] = digit_version(torch.__version__)[:2]
"""Version of PyTorch, major and minor."""


def no_compile(function: FunctionT) -> FunctionT:
    """Keep ``function`` out of compiled graphs, where it would be traced anew as its counters change.

    A compiled student is split at its hooks: before and after its forward pass, and at recorded modules.
    Until 2.1 ``torch.compiler`` did not exist.
    """
    module: Any = torch.compiler if TORCH >= (2, 1) else importlib.import_module('torch._dynamo')
    return module.disable(function)  # type: ignore[no-any-return]


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of the autocast that is on for ``device``; None where none is.

    Until 2.4 each device type had functions of its own.
    """
    if TORCH >= (2, 4):
        try:
            return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        except RuntimeError:  # a device without autocast (MPS until 2.5)
            return None
    if device.type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def autocast(device: torch.device, dtype: torch.dtype | None = None) -> ContextManager[Any]:
    """Return a context with autocast to ``dtype``, or without any, also on a device that has none (MPS until 2.5)."""
    try:
        return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
    except RuntimeError:
        if dtype is not None:
            raise
        return contextlib.nullcontext()


def register_final_hook(module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
    """Register a forward hook that gets keyword arguments and is called after an exception, too.

    Until 2.1 it is not called after an exception; what it tidies up then waits for the next forward pass.
    """
    after_exceptions: dict[str, Any] = dict(always_call=True) if TORCH >= (2, 1) else {}
    return module.register_forward_hook(hook, with_kwargs=True, **after_exceptions)


def register_state_dict_hook(module: nn.Module, hook: Callable[..., None]) -> RemovableHandle:
    """Register a hook that may change what ``module.state_dict()`` returns; public since 2.5."""
    register = getattr(module, 'register_state_dict_post_hook', None) or module._register_state_dict_hook
    return register(hook)  # type: ignore[no-any-return]
