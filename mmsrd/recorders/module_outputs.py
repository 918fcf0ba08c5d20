"""Find modules by their dotted paths, and the tensors in what they return."""
from __future__ import annotations

from typing import Any, Iterable, Mapping

from torch import Tensor, nn

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


def as_levels(output: Any, key: str, path: str) -> list[Tensor]:
    """The tensors of one module output: itself, or the members of a tuple, list or dict, and of those within it.

    None members (an auxiliary output that is switched off) do not count.

    Raises:
        TapError: The output is something else.
    """
    if isinstance(output, Tensor):
        return [output]
    members = [x for x in _members(output) if x is not None]
    if members and all(isinstance(x, (Tensor, tuple, list, Mapping)) for x in members):
        return [level for x in members for level in as_levels(x, key, path)]
    what = type(output).__name__
    if isinstance(output, (tuple, list, Mapping)):
        what += f' of {sorted({type(x).__name__ for x in members})}'
    raise TapError.at(key, path, f'its output is not a tensor or a list of tensors but a {what}')


def _members(output: Any) -> list[Any]:
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else []


def tensor_versions(output: Any) -> list[int]:
    """PyTorch's write counters of the tensors in a module output."""
    if isinstance(output, Tensor):
        return [output._version]
    return [version for x in _members(output) for version in tensor_versions(x)]


def unique_paths(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """``(path, key)`` pairs as path → first key, so that two losses share one recorder."""
    paths: dict[str, str] = {}
    for path, key in named:
        paths.setdefault(path, key)
    return paths
