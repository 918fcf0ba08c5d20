"""Processes that load data: their random states, and how they take a signal that a scheduler sends to the whole job."""
from __future__ import annotations

import atexit
import os
import signal
from typing import Any, Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ..utils.random_state import STATE_SIZE, random_state, set_random_state
from .signals import handle_signals


class WorkerStates:
    """What the random states of a loader's workers were after the batches that training has had.

    Workers are ahead of training by the batches that they prefetch, so each writes its state into memory shared with
    the main process after every batch, and the main process reads that of the last batch which it was given. Nothing
    that the workers draw changes.

    Args:
        loader: Before its first iteration. With ``num_workers=0`` it is left as it is. None for one that is not to be
            looked after.
    """

    def __init__(self, loader: DataLoader[Any] | None) -> None:
        self.workers = 0 if loader is None else loader.num_workers
        self._persistent = loader is not None and loader.persistent_workers
        self._initial: list[Tensor | None] = [None] * self.workers
        self._consumed = [0] * self.workers
        self._processes = [0] * self.workers
        if loader is None or not self.workers:
            return
        # One for each batch that may be under way, for the last that was given out, and for the one being written.
        slots = (loader.prefetch_factor or 2) + 2
        self._ring = torch.zeros(self.workers, slots, STATE_SIZE, dtype=torch.uint8)
        self._ids = torch.zeros(self.workers, dtype=torch.int64)
        for tensor in (self._ring, self._ids):
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        self._start = _SeedWorker(loader.worker_init_fn, self._ids)
        loader.collate_fn = _CollateAndNote(loader.collate_fn, self._ring)
        loader.worker_init_fn = self._start

    def begin(self, states: Sequence[Tensor | None] | None) -> None:
        """A pass begins; until :meth:`started` workers start with these states.

        Args:
            states: One for each worker, None for as the loader seeds it; None where nothing is to be restored.
        """
        if self.workers and (states is not None or not self._persistent):
            self.restarted(states)
            self._start.states = list(self._initial)

    def started(self) -> None:
        """Workers have been started; others that a pass may start later are seeded by the loader."""
        if self.workers:
            self._start.states = [None] * self.workers

    def restarted(self, states: Sequence[Tensor | None] | None = None) -> None:
        """The loader has workers that have done nothing yet, unless it keeps those of the last pass."""
        if states is not None or not self._persistent:
            self._initial = list(states or [None] * self.workers)
            self._consumed = [0] * self.workers

    def count_batch(self, batch: int) -> None:
        """Training was given a batch.

        Args:
            batch: Its number in this pass over the loader, from 0.
        """
        if not self.workers:
            return
        worker = batch % self.workers  # PyTorch gives batches to workers in turn
        process = int(self._ids[worker])
        if process != self._processes[worker]:  # also where a hook made the loader start persistent workers anew
            self._processes[worker] = process
            self._consumed[worker] = 0
        self._consumed[worker] += 1

    def states(self) -> list[Tensor | None]:
        """State of each worker after the last of its batches that training was given; None for as it was seeded."""
        return [self._state(worker, count) for worker, count in enumerate(self._consumed)]

    def _state(self, worker: int, count: int) -> Tensor | None:
        if count and int(self._ids[worker]) != self._processes[worker]:
            return None  # was started anew since
        return self._ring[worker, (count - 1) % self._ring.shape[1]].clone() if count else self._initial[worker]


class _CollateAndNote:
    """Makes a batch, then writes down the worker's random state; an empty batch has no effect and is None."""

    def __init__(self, collate: Callable[[Any], Any], ring: Tensor) -> None:
        self.collate = collate
        self.ring = ring
        self.count = 0

    def __call__(self, samples: Any) -> Any:
        if isinstance(samples, list) and not samples:
            return None
        batch = self.collate(samples)
        worker = get_worker_info()
        if worker is not None:
            self.ring[worker.id, self.count % self.ring.shape[1]] = random_state()
            self.count += 1
        return batch


class _SeedWorker:
    """Seeds a worker as the loader would, then restores the state that it is to begin with, if any."""

    def __init__(self, seed: Callable[[int], None] | None, ids: Tensor) -> None:
        self.seed = seed
        self.ids = ids
        self.states: list[Tensor | None] = [None] * len(ids)

    def __call__(self, worker: int) -> None:
        if self.seed is not None:
            self.seed(worker)
        self.ids[worker] = os.getpid()
        state = self.states[worker]
        if state is not None:
            set_random_state(state)


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
