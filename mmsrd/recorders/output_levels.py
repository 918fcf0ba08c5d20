"""The tensors in what a module returns."""
from __future__ import annotations

from typing import Any, Iterator, Mapping

from torch import Tensor

from ..errors import TapError


def as_levels(output: Any, key: str, path: str) -> list[Tensor]:
    """The tensors of one module output: itself, or the members of a tuple, list or dict, and of those within it.

    None members (an auxiliary output that is switched off) do not count.

    Raises:
        TapError: The output is something else.
    """
    leaves = list(_leaves(output))
    levels = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if levels and len(levels) == len(leaves):
        return levels
    what = type(output).__name__
    if isinstance(output, (tuple, list, Mapping)):
        what += f' of {sorted({type(leaf).__name__ for leaf in leaves})}'
    raise TapError.at(key, path, f'its output is not a tensor or a list of tensors but a {what}')


def _leaves(output: Any) -> Iterator[Any]:
    """Everything in nested containers but None."""
    if isinstance(output, (tuple, list, Mapping)):
        for member in _members(output):
            yield from _leaves(member)
    elif output is not None:
        yield output


def _members(output: Any) -> list[Any]:
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else []


def tensor_versions(output: Any) -> list[int]:
    """PyTorch's write counters of the tensors in a module output."""
    if isinstance(output, Tensor):
        return [output._version]
    return [version for x in _members(output) for version in tensor_versions(x)]
