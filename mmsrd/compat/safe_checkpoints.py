"""Checkpoints that can be read without running code from them.

MMEngine writes its message hub into a checkpoint: history buffers with NumPy
arrays, which PyTorch's restricted unpickler (``weights_only=True``) refuses unless they are
allowed by name. The list below is that and no more; anything else in a file is refused.
What hooks and data sets put into a checkpoint is therefore made plain before it is saved.
"""
from __future__ import annotations

import codecs
import enum
import functools
import importlib
import os
import pickle
import types
import zipfile
from collections import OrderedDict, deque
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, ClassVar, Dict, Mapping, Optional, Sequence

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging.history_buffer import HistoryBuffer

from ..errors import CheckpointError
from .torch_versions import TORCH

ALLOW_LIST = TORCH >= (2, 6)
"""Whether PyTorch can be told under which names a file may refer to which globals; since 2.6."""
PYTORCH_READS = TORCH >= (2, 14)
"""Whether PyTorch's own restricted unpickler reads checkpoints. Before (seen with 2.8, not with 2.14) it takes a tensor
that claims more memory than the file has for it."""
_HISTORY_METHODS = ('current', 'max', 'mean', 'min')
_CONTAINERS = (dict, OrderedDict, ConfigDict, list, tuple, set)
_SEQUENCES: tuple[tuple[tuple[type, ...], Callable[..., Any]], ...] = (
    ((list,), list), ((tuple,), tuple), ((set, frozenset), set), ((deque, range), list))
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_SCALARS: tuple[type[Any], ...] = (int, float, str, bytes)
_PLAIN = (type(None), bool, int, float, str, bytes)
_OTHERS = (torch.Tensor, torch.Size, torch.dtype, torch.device, np.ndarray, np.generic, np.dtype, HistoryBuffer)
"""Types that can be read beside plain values and containers of them."""


def history_method(owner: type, name: str) -> Any:
    """Return a method that a pickled ``HistoryBuffer`` refers to; stands for ``getattr``.

    MMEngine pickles them as ``getattr(HistoryBuffer, 'mean')``. Allowing the real
    ``getattr`` would open the door to any attribute of any allowed object.

    Raises:
        pickle.UnpicklingError: Anything else is asked for.
    """
    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise pickle.UnpicklingError(f'Unsupported attribute: {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)


def mmengine_globals() -> list[Any]:
    """Return the globals in MMEngine's own checkpoints, besides tensors and plain containers."""
    multiarray = importlib.import_module('numpy._core.multiarray' if hasattr(np, '_core') else 'numpy.core.multiarray')
    names = ('numpy._core.multiarray', 'numpy.core.multiarray')  # NumPy 2 wrote the first, NumPy 1 the second
    functions = [(getattr(multiarray, f), f'{module}.{f}') for module in names for f in ('_reconstruct', 'scalar')]
    dtypes = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith('DType')] \
        if hasattr(np, 'dtypes') else []
    methods = [(history_method, f'{module}.getattr') for module in ('builtins', '__builtin__')]
    return [HistoryBuffer, ConfigDict, np.ndarray, np.dtype, *dtypes, *functions, *methods]


def allow_mmengine_globals() -> None:
    """Let ``torch.load`` read MMEngine's checkpoints in this process, so that ``resume`` works from torch 2.6 on.

    Before that MMEngine's own ``torch.load`` reads whatever is in a file.
    """
    if ALLOW_LIST:
        torch.serialization.add_safe_globals(mmengine_globals())


class _Unpickler(pickle._Unpickler):
    """Finds tensors, plain containers and MMEngine's own, and refuses everything else.

    The one in Python, because what it does with each opcode can be changed.
    """

    dispatch: ClassVar[Dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    storage_bytes: ClassVar[Optional[Dict[str, int]]] = None
    """Bytes of each storage in the archive, by its key; None for a file of before PyTorch 1.6."""

    def load_binpersid(self) -> None:
        """Take a storage, unless the file says that it is larger than it is: PyTorch would read behind its end."""
        saved = self.stack[-1]  # type: ignore[attr-defined]
        if self.storage_bytes is not None:
            _, kind, key, _, numel = saved
            size = int(numel) * torch.empty(0, dtype=getattr(kind, 'dtype', torch.uint8)).element_size()
            if not 0 <= size <= self.storage_bytes.get(str(key), -1):
                raise pickle.UnpicklingError(f'Unsupported storage {key!r} of {numel!r} elements')
        super().load_binpersid()  # type: ignore[misc]

    dispatch[pickle.BINPERSID[0]] = load_binpersid

    def load_build(self) -> None:
        """Set attributes of an object that the file has made, not of a function that it has found."""
        made = self.stack[-2]  # type: ignore[attr-defined]
        if not isinstance(made, (OrderedDict, torch.Tensor, HistoryBuffer, np.ndarray, np.dtype)):
            raise pickle.UnpicklingError(f'Unsupported attributes of a {type(made).__name__}')
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build
    del dispatch[pickle.BYTEARRAY8[0]]  # takes as much memory as a file says; checkpoints have none

    def find_class(self, module: str, name: str) -> Any:
        full = f'{module}.{name}'
        allowed = _allowed_globals()
        if full not in allowed:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full}')
        return allowed[full]


def _restricted_pickle(storage_bytes: Optional[Dict[str, int]]) -> ModuleType:
    """Return a module for ``torch.load(pickle_module=...)``, for one file with storages of these sizes."""
    unpickler = type('Unpickler', (_Unpickler,), dict(storage_bytes=storage_bytes))
    module = ModuleType('restricted_pickle')
    vars(module).update(
        Unpickler=unpickler, UnpicklingError=pickle.UnpicklingError,
        load=lambda file, **options: unpickler(file, **options).load())  # files of before PyTorch 1.6
    return module


@functools.lru_cache(maxsize=None)
def _allowed_globals() -> dict[str, Any]:
    """Return all globals that a file may refer to, by full name; it does so thousands of times."""
    from torch import _weights_only_unpickler
    dtypes = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    named = [entry if isinstance(entry, tuple) else (entry, f'{entry.__module__}.{entry.__qualname__}')
             for entry in mmengine_globals()]
    # PyTorch's own list: what rebuilds tensors and parameters, OrderedDict.
    sets = {f'{module}.set': set for module in ('builtins', '__builtin__')}  # which newer versions allow
    return {**_weights_only_unpickler._get_allowed_globals(), **dtypes, **sets, '_codecs.encode': codecs.encode,
            **{name: value for value, name in named}}


def _check_archive(path: str) -> Optional[Dict[str, int]]:
    """Refuse an archive that is larger than its file; PyTorch never compresses one.

    Returns:
        dict: Bytes of each storage in it, by its key; None for a file that is no archive.
    """
    if not os.path.getsize(path) or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    declared = sum(entry.file_size for entry in entries)
    if declared > os.path.getsize(path):
        raise ValueError(f'its entries claim {declared} bytes, the file has {os.path.getsize(path)}')
    return {Path(entry.filename).name: entry.file_size for entry in entries
            if Path(entry.filename).parent.name == 'data'}


def _load(path: str) -> Any:
    if path.endswith('.safetensors'):  # a format that holds tensors and nothing else
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise ValueError('safetensors is not installed; "pip install safetensors" installs it') from None
        try:
            return load_file(path)
        except FileNotFoundError:
            raise
        except Exception as e:  # a class of its own, which is derived from no other
            raise ValueError(str(e)) from e
    storage_bytes = _check_archive(path)
    # Not the context manager of PyTorch: on exit it would take the names from the list for good,
    # and MMEngine's own torch.load needs them there.
    allow_mmengine_globals()
    if PYTORCH_READS:
        return torch.load(path, map_location='cpu', weights_only=True)
    # PyTorch's own restriction is off where an unpickler is given, and this one restricts.
    return torch.load(path, map_location='cpu', pickle_module=_restricted_pickle(storage_bytes), weights_only=False)


def load_checkpoint_file(path: str, key: str) -> dict[str, Any]:
    """Load a checkpoint on the CPU without running code from it.

    Args:
        path: A local file; ``~`` is the home directory, as for MMEngine.
        key: Config key that named it, for messages.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: The file is missing, damaged, holds pickled code outside
            of the allow-list, or is not a checkpoint.
    """
    try:
        checkpoint = _load(os.path.expanduser(path))
    except FileNotFoundError:
        raise CheckpointError.at(key, path, 'no such file') from None
    except pickle.UnpicklingError as e:
        detail = str(e).strip().splitlines()
        reason = next((line.strip() for line in detail if 'Unsupported' in line or 'GLOBAL' in line), detail[0])
        raise CheckpointError.at(
            key, path, 'refused: the file is damaged, or holds pickled objects other than tensors and MMEngine\'s own, '
            f'which could run code when they are loaded ({reason})') from e
    except Exception as e:  # whatever reading garbage raises
        raise CheckpointError.at(key, path, f'cannot be read; it may be truncated ({type(e).__name__}: {e})') from e
    if not isinstance(checkpoint, dict):
        raise CheckpointError.at(key, path, f'holds a {type(checkpoint).__name__}, not a checkpoint (a dict)')
    return checkpoint


def to_plain(value: Any, place: str, replaced: dict[str, str]) -> Any:
    """Return a value that can be read from a checkpoint, in the simplest types that keep what it says.

    Mappings become dicts, named tuples tuples, paths and enumerations what they stand for; functions are left out of
    mappings. Values that are plain already come back as they are, the same objects; nothing is written into.

    Args:
        value: Any value.
        place: Path of the value within the checkpoint, for ``replaced``.
        replaced: Receives path and type of each object that is none of these, of which the text is kept alone.

    Example:
        >>> from collections import defaultdict
        >>> from pathlib import Path
        >>> from mmsrd.compat.safe_checkpoints import to_plain
        >>> to_plain(defaultdict(list, a=[Path('x/y')]), 'meta', {})
        {'a': ['x/y']}
    """
    if type(value) in _PLAIN or (type(value) not in _CONTAINERS and _is_allowed(value)):
        return value
    if isinstance(value, enum.Enum):
        return to_plain(value.value, place, replaced)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, place, replaced)
    for kinds, container in _SEQUENCES:
        if isinstance(value, kinds):
            own = [*value]  # type: ignore[misc]
            members = [to_plain(member, f'{place}[{i}]', replaced) for i, member in enumerate(own)]
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
    """Return whether PyTorch reads objects of this class, because it or the user says so."""
    if isinstance(value, _OTHERS):
        return not (isinstance(value, np.ndarray) and value.dtype.hasobject)
    named: Sequence[Any] = getattr(torch.serialization, 'get_safe_globals', list)()
    return any(type(value) is (entry[0] if isinstance(entry, tuple) else entry) for entry in named)


def _plain_mapping(value: Any, place: str, replaced: dict[str, str]) -> Any:
    # MMEngine's ConfigDict builds objects where it is asked for its items itself.
    entries = list(dict.items(value) if isinstance(value, dict) else value.items())
    # A scheduler has a method of its own in its state, and has it again after a resume.
    members = [(to_plain(key, f'{place} key', replaced), to_plain(entry, f'{place}.{key}', replaced))
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
        dict: Path → type of objects of which only the text is kept.
    """
    replaced: dict[str, str] = {}
    for key in list(checkpoint):
        checkpoint[key] = to_plain(checkpoint[key], str(key), replaced)
    return replaced
