"""Make what goes into a checkpoint plain, so that it can be read without running code from the file."""
from __future__ import annotations

import enum
import functools
import os
import types
from collections import OrderedDict, deque
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging.history_buffer import HistoryBuffer

_CONTAINERS = (dict, OrderedDict, ConfigDict, list, tuple, set)
_SEQUENCES: tuple[tuple[tuple[type, ...], Callable[..., Any]], ...] = (
    ((list,), list), ((tuple,), tuple), ((set, frozenset), set), ((deque, range), list))
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_SCALARS: tuple[type[Any], ...] = (int, float, str, bytes)
_PLAIN = (type(None), bool, int, float, str, bytes)
_OTHERS = (torch.Tensor, torch.Size, torch.dtype, torch.device, np.ndarray, np.generic, np.dtype, HistoryBuffer)
"""What :mod:`mmsrd.compat.safe_loading` reads beside plain values and containers of them."""


def plain(value: Any, place: str, replaced: dict[str, str]) -> Any:
    """A value of which a checkpoint can be read, in the simplest types that keep what it says.

    Mappings become dicts, named tuples tuples, paths and enumerations what they stand for; functions are left out of
    mappings. Values that are plain already come back as they are, the same objects; nothing is written into.

    Args:
        value: Any value.
        place: Where it stands, for ``replaced``.
        replaced: Takes the place and type of each object that is none of these, of which the text is kept alone.

    Example:
        >>> from collections import defaultdict
        >>> from pathlib import Path
        >>> from mmsrd.compat.plain_values import plain
        >>> plain(defaultdict(list, a=[Path('x/y')]), 'meta', {})
        {'a': ['x/y']}
    """
    if type(value) in _PLAIN or (type(value) not in _CONTAINERS and _is_allowed(value)):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, place, replaced)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, place, replaced)
    for kinds, container in _SEQUENCES:
        if isinstance(value, kinds):
            own = [*value]  # type: ignore[misc]
            members = [plain(member, f'{place}[{i}]', replaced) for i, member in enumerate(own)]
            same = type(value) is container and all(new is old for new, old in zip(members, own))
            return value if same else container(members)
    for kind in _SCALARS:
        if isinstance(value, kind):  # of a class of its own
            return kind(value)
    if isinstance(value, bytearray):
        return bytes(value)
    replaced[place] = f'{type(value).__module__}.{type(value).__qualname__}'
    return str(value)


def _is_allowed(value: Any) -> bool:
    """Whether PyTorch reads objects of this class, because it or the user says so."""
    if isinstance(value, _OTHERS):
        return not (isinstance(value, np.ndarray) and value.dtype.hasobject)
    named: Sequence[Any] = getattr(torch.serialization, 'get_safe_globals', list)()
    return any(type(value) is (entry[0] if isinstance(entry, tuple) else entry) for entry in named)


def _plain_mapping(value: Any, place: str, replaced: dict[str, str]) -> Any:
    # MMEngine's ConfigDict builds objects where it is asked for its items itself.
    entries = list(dict.items(value) if isinstance(value, dict) else value.items())
    # A scheduler has a method of its own in its state, and has it again after a resume.
    members = [(plain(key, f'{place} key', replaced), plain(entry, f'{place}.{key}', replaced))
               for key, entry in entries if not isinstance(entry, _FUNCTIONS)]
    if type(value) in (dict, OrderedDict) and len(members) == len(entries) and all(
            new is old for pair, before in zip(members, entries) for new, old in zip(pair, before)):
        return value
    if not isinstance(value, OrderedDict):
        return dict(members)
    ordered: OrderedDict[Any, Any] = OrderedDict(members)
    if hasattr(value, '_metadata'):
        ordered._metadata = value._metadata  # type: ignore[attr-defined]  # modules convert older versions by it
    return ordered


def make_plain(checkpoint: dict[str, Any]) -> dict[str, str]:
    """Make all entries of a checkpoint plain, in the dict itself.

    Returns:
        dict: Place → type of objects of which only the text is kept.
    """
    replaced: dict[str, str] = {}
    for key in list(checkpoint):
        checkpoint[key] = plain(checkpoint[key], str(key), replaced)
    return replaced
