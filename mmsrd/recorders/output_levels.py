"""The tensors in what a module returns."""
from __future__ import annotations

from typing import Any, Mapping

from torch import Tensor

from ..errors import TapError


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
