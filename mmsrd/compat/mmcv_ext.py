"""A stand-in for ``mmcv._ext``, the module of mmcv's compiled operators.

``mmcv-lite`` ships the Python side of every operator but not the compiled one,
so ``import mmcv.ops`` (and with it ``import mmdet.models``) fails. The module
built here answers that import: operators that torchvision or plain PyTorch can
compute are in :mod:`mmsrd.compat.mmcv_ops`; every other name is a function that says
how to get the compiled one when it is called. Where mmcv has compiled operators
nothing is done.
"""
from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any, Callable

from ..errors import MissingOpError

EXT_NAME = 'mmcv._ext'


class StandInExt(ModuleType):
    """Module object that resolves operators on first use.

    torchvision is imported when an operator is looked up in
    :mod:`mmsrd.compat.mmcv_ops`, not when mmsrd is imported.
    """

    def __init__(self) -> None:
        super().__init__(EXT_NAME, 'torchvision-backed operators of mmsrd')
        # mmcv and mmengine ask pkgutil.find_loader for it, which reads __spec__.
        self.__spec__ = importlib.machinery.ModuleSpec(EXT_NAME, loader=None, origin='mmsrd')

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith('__'):
            raise AttributeError(name)
        from .mmcv_ops import OPS
        op: Callable[..., Any] = OPS.get(name) or _missing(name)
        setattr(self, name, op)
        return op


def _missing(name: str) -> Callable[..., Any]:

    def unavailable(*args: Any, **kwargs: Any) -> Any:
        raise MissingOpError.named(name)

    unavailable.__name__ = name
    return unavailable


def has_compiled_ops() -> bool:
    """Return whether the installed mmcv brings its own compiled operators."""
    module = sys.modules.get(EXT_NAME)
    if module is not None:
        return not isinstance(module, StandInExt)
    mmcv_spec = importlib.util.find_spec('mmcv')
    locations = mmcv_spec.submodule_search_locations if mmcv_spec else None
    # Look for the file instead of importing mmcv, which would load OpenCV as well.
    return locations is not None and importlib.machinery.PathFinder.find_spec(EXT_NAME, locations) is not None


def install() -> bool:
    """Put the stand-in in place where mmcv is installed without compiled operators.

    Returns:
        bool: Whether ``mmcv._ext`` is the stand-in now.
    """
    if isinstance(sys.modules.get(EXT_NAME), StandInExt):
        return True
    if importlib.util.find_spec('mmcv') is None or has_compiled_ops():
        return False
    sys.modules[EXT_NAME] = StandInExt()
    for kind in _PROCESSES:
        ForkingPickler.register(kind, _reduce_process)
    return True


# A process that is not forked imports modules as it unpickles what it is to do, a data set of MMDetection for instance.
# It reads the process object first, and with it the name of a function in this module: so mmsrd comes before mmcv.
_PROCESSES = [getattr(context, name) for name in ('Process', 'SpawnProcess', 'ForkServerProcess')
              if hasattr(context, name)]


def _reduce_process(process: Any) -> tuple[Any, ...]:
    return _new_process, (type(process),), vars(process)


def _new_process(kind: type[Any]) -> Any:
    return object.__new__(kind)
