"""Signal handlers of a training, which processes that it starts do not inherit."""
from __future__ import annotations

import os
import signal
import threading
from typing import Any, Callable, Dict, Iterable

_BEFORE: Dict[int, Any] = {}
"""Handlers of before, by signal, while this process has handlers of :func:`handle_signals`."""


def handle_signals(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> bool:
    """Handle signals in this process alone: one that is forked from it has the handlers of before.

    Args:
        numbers: Numbers of the signals.
        handler: Called with the number and the current frame.

    Returns:
        bool: Whether they are handled; Python allows it in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in numbers:
        before = signal.signal(number, handler)
        _BEFORE.setdefault(number, before)
    return True


def restore_signals() -> None:
    """Install the handlers of before :func:`handle_signals` again."""
    while _BEFORE:
        number, before = _BEFORE.popitem()
        # One that Python did not install reads as None, and cannot be installed by it.
        signal.signal(number, signal.SIG_DFL if before is None else before)


def ignore_signals(numbers: Iterable[int]) -> None:
    """Ignore signals until this process ends."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    _BEFORE.clear()


# multiprocessing.Pool ends its processes with SIGTERM, and waits for them. A signal that comes while a process begins
# would be lost: it waits until the handlers of before are there.
_MASK = threading.local()


def _before_fork() -> None:
    _MASK.before = signal.pthread_sigmask(signal.SIG_BLOCK, list(_BEFORE))


def _after_fork_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _MASK.before)


def _after_fork_in_child() -> None:
    restore_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, _MASK.before)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
