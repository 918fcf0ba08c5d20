"""Find modules by their dotted paths."""
from __future__ import annotations

from typing import Iterable

from torch import nn

from ..errors import TapError, did_you_mean


def find_module(model: nn.Module, path: str, key: str) -> nn.Module:
    """The submodule of ``model`` at dotted ``path``.

    Raises:
        TapError: There is none; the message names the closest existing paths.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    modules.pop('', None)
    if path in modules:
        return modules[path]
    parent = path
    while parent and parent not in modules:
        parent = parent.rpartition('.')[0]
    children = [name for name, _ in (modules[parent] if parent else model).named_children()]
    raise TapError.at(
        key, path, f'{type(model).__name__} has no such module{did_you_mean(path, modules)}. '
        f'Modules of {parent or type(model).__name__}: {", ".join(children) or "none"}')


def unique_paths(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """``(path, key)`` pairs as path → first key, so that two losses share one recorder."""
    paths: dict[str, str] = {}
    for path, key in named:
        paths.setdefault(path, key)
    return paths
