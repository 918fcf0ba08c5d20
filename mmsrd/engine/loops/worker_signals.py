"""Processes that load data, when a scheduler sends its signal to all processes of a job."""
from __future__ import annotations

import atexit
import os
import signal
from typing import Any, Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...utils.signals import handle_signals


def outlive_signals(loader: Any, signals: Sequence[int]) -> None:
    """Let workers that ``loader`` starts from now on ignore ``signals`` until this process ends.

    The training needs its batches until it has saved; without this the first signal would end the workers and, through
    them, the training.

    Args:
        loader: Anything but a ``DataLoader`` with workers is left as it is.
        signals: Numbers of the signals that the training handles.
    """
    if not isinstance(loader, DataLoader) or not loader.num_workers or isinstance(loader.worker_init_fn, _Outlive) \
            or not signals:
        return
    over = torch.zeros(1, dtype=torch.bool)
    over.share_memory_()  # type: ignore[no-untyped-call]
    atexit.register(over.fill_, True)  # before multiprocessing's own, which ends its children with SIGTERM
    loader.worker_init_fn = _Outlive(loader.worker_init_fn, over, signals)


class _Outlive:
    """``worker_init_fn``; a class, so that it can be pickled for workers that are not forked."""

    def __init__(self, then: Callable[[int], None] | None, over: Tensor, signals: Sequence[int]) -> None:
        self.then = then
        self.over = over
        self.signals = signals

    def __call__(self, worker: int) -> None:
        # Not SIG_IGN, which programs that the worker starts would inherit.
        handle_signals(self.signals, self._receive)
        if self.then is not None:
            self.then(worker)

    def _receive(self, number: int, frame: Any) -> None:
        if number == signal.SIGTERM and self.over[0]:
            os._exit(0)
