"""Signals that a scheduler sends: handlers of a training, which processes that it starts do not inherit."""
from __future__ import annotations

import atexit
import os
import signal
import threading
from typing import Any, Callable, Dict, Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

_PREVIOUS: Dict[int, Any] = {}
"""Previous handlers by signal, while this process has handlers of :func:`handle_signals`."""


def handle_signals(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> bool:
    """Handle signals in this process alone: one that is forked from it has the previous handlers.

    Args:
        numbers: Numbers of the signals.
        handler: Called with the number and the current frame.

    Returns:
        bool: Whether they are handled; Python allows it in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in numbers:
        _PREVIOUS.setdefault(number, signal.signal(number, handler))
    return True


def restore_signals() -> None:
    """Install the handlers that were there before :func:`handle_signals`."""
    while _PREVIOUS:
        number, previous = _PREVIOUS.popitem()
        # One that Python did not install reads as None, and cannot be installed by it.
        signal.signal(number, signal.SIG_DFL if previous is None else previous)


def ignore_signals(numbers: Iterable[int]) -> None:
    """Ignore signals until this process ends."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    _PREVIOUS.clear()


# multiprocessing.Pool ends its processes with SIGTERM, and waits for them. A signal that comes while a process begins
# would be lost: it waits until the previous handlers are there.
_MASK = threading.local()


def _before_fork() -> None:
    _MASK.previous = signal.pthread_sigmask(signal.SIG_BLOCK, list(_PREVIOUS))


def _after_fork_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _MASK.previous)


def _after_fork_in_child() -> None:
    restore_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, _MASK.previous)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def outlive_signals(loader: Any, signals: Sequence[int]) -> None:
    """Let processes that load data ignore ``signals`` until this process ends.

    It acts on those that ``loader`` starts from now on. The training needs its batches until it has saved; without
    this the first signal would end the workers and, through them, the training.

    Args:
        loader: Anything but a ``DataLoader`` with workers is left as it is.
        signals: Numbers of the signals that the training handles; nothing happens for none.
    """
    if not isinstance(loader, DataLoader) or not loader.num_workers or not signals:
        return
    if isinstance(loader.worker_init_fn, _OutliveSignals):
        return
    ended = torch.zeros(1, dtype=torch.bool)
    ended.share_memory_()  # type: ignore[no-untyped-call]
    atexit.register(ended.fill_, True)  # before multiprocessing's own, which ends its children with SIGTERM
    loader.worker_init_fn = _OutliveSignals(loader.worker_init_fn, ended, signals)


class _OutliveSignals:
    """``worker_init_fn``; a class, so that it can be pickled for workers that are not forked."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None, ended: Tensor, signals: Sequence[int]) -> None:
        self.worker_init_fn = worker_init_fn
        self.ended = ended
        self.signals = signals

    def __call__(self, worker: int) -> None:
        # Not SIG_IGN, which programs that the worker starts would inherit.
        handle_signals(self.signals, self._receive)
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker)

    def _receive(self, number: int, frame: Any) -> None:
        if number == signal.SIGTERM and self.ended[0]:
            os._exit(0)
