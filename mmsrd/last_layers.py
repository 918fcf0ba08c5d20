"""Where a classifier makes its last feature and its logits."""
from __future__ import annotations

import contextlib
from typing import Any, Callable

from torch import Tensor, nn

from .errors import TapError
from .probe import dry_run


def last_linear(model: nn.Module, key: str) -> str | None:
    """Path of the linear layer that makes the logits: the last of the head, or one that ends the backbone (VGG).

    Args:
        model: A classifier.
        key: Config key, for messages.
    """
    for root in ('head', 'backbone', 'model'):
        part = getattr(model, root, None)
        linear = [f'{root}.{name}'.rstrip('.') for name, module in part.named_modules()
                  if isinstance(module, nn.Linear)] if isinstance(part, nn.Module) else []
        if linear and (root != 'backbone' or _ends_with(model, linear[-1], key)):
            return linear[-1]
    return None


def last_feature(model: nn.Module, linear: str | None, key: str) -> str | None:
    """Path of the last feature: of a neck that pools, else the backbone, else what feeds the last linear layer.

    Args:
        model: A classifier.
        linear: Its :func:`last_linear`.
        key: Config key, for messages.
    """
    ends_in_logits = linear is not None and linear.startswith('backbone.')
    if isinstance(getattr(model, 'neck', None), nn.Module) and not ends_in_logits:
        with contextlib.suppress(TapError):
            if len(dry_run(model, 'neck', key).shapes['neck'][-1]) == 2:
                return 'neck'
    if isinstance(getattr(model, 'backbone', None), nn.Module) and not ends_in_logits:
        return 'backbone'
    return None if linear is None else _source_of(model, linear, key)


def _ends_with(model: nn.Module, path: str, key: str) -> bool:
    """Whether the backbone returns the output of the module at ``path``."""
    try:
        made, _ = _trace(model, path, key)
    except TapError:
        return False
    last = dict(made)
    returned = last.get('backbone')
    return path in last and any(x is last[path] for x in (
        returned if isinstance(returned, (tuple, list)) else [returned]))


def _source_of(model: nn.Module, path: str, key: str) -> str | None:
    """Path of the module whose output, or a view of it, goes into the module at ``path``; dropout does not count."""
    made, fed = _trace(model, path, key)
    sources = [name for name, output in made if fed and _same_memory(output, fed[-1])
               and not isinstance(model.get_submodule(name), nn.Dropout)]
    return sources[-1] if sources else None


def _same_memory(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.data_ptr() == b.data_ptr() and a.numel() == b.numel()


def _trace(model: nn.Module, path: str, key: str) -> tuple[list[tuple[str, Any]], list[Any]]:
    """Outputs of all modules in one dry run, in the order of the calls, and inputs of the module at ``path``."""
    made: list[tuple[str, Any]] = []  # the outputs themselves: memory may be given again to a later one
    fed: list[Any] = []

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, args, output: made.append((name, output))

    hooks = [module.register_forward_hook(remember(name)) for name, module in model.named_modules() if name]
    hooks.append(model.get_submodule(path).register_forward_pre_hook(lambda module, args: fed.append(args[0])))
    try:
        dry_run(model, path, key)
    finally:
        for hook in hooks:
            hook.remove()
    return made, fed
