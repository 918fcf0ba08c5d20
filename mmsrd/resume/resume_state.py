"""State of a run that a checkpoint keeps, so that a resume has the data and random numbers of an undisturbed run."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, get_worker_info

from ..utils.random_state import STATE_SIZE, random_state, set_random_state


@dataclass
class ResumeState:
    """Position of a training in its data, and its random states.

    Attributes:
        passes: Passes over the data that are done.
        batches: Batches of the next pass that are done, in each process.
        processes: Of each process: random states of itself (``cpu``; ``cuda`` or None) and of its ``workers``, and what
            must be the same: its ``seed``, ``num_workers``, ``batch_size``, and the ``length`` of a pass in batches.
        validated: Whether the run has validated.
        validating: Whether it was saved while doing so.
        preempted: Whether the process ended right after it, before a validation that was due.
    """

    passes: int
    batches: int
    processes: list[dict[str, Any]]
    validated: bool
    validating: bool
    preempted: bool

    @classmethod
    def from_loop(cls, loop: Any, passes: int, batches: int, workers: Sequence[Tensor | None]) -> ResumeState:
        """Return the state of a loop; all processes must call it.

        Args:
            loop: A :class:`mmsrd.resume.train_loops.ResumableLoop`.
            passes: Passes over the data that are done.
            batches: Batches of the next pass that are done.
            workers: Random states of the loader's workers; empty where the loader seeds them.
        """
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        own = dict(cpu=random_state(), cuda=cuda, workers=list(workers), num_workers=loop.dataloader.num_workers,
                   batch_size=_batch_size(loop.dataloader), length=len(loop.dataloader), seed=loop.runner.seed)
        return cls(passes, batches, all_gather_object(own), loop.validated, loop.validating, loop.preempted)

    @property
    def own(self) -> dict[str, Any]:
        """Entry of this process."""
        own: dict[str, Any] = self.processes[get_rank()]
        return own

    @property
    def workers(self) -> list[Tensor | None]:
        """Random states with which the workers of this process begin."""
        saved = self.own['workers'] or [None] * self.own['num_workers']
        return [None if state is None else state.cpu() for state in saved]  # MMEngine loads onto the device

    def restore(self) -> None:
        """Set the random states of this process."""
        set_random_state(self.own['cpu'].cpu())
        if self.own['cuda'] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.own['cuda'].cpu())


def _batch_size(loader: DataLoader[Any]) -> Any:
    return getattr(loader.batch_sampler, 'batch_size', loader.batch_size)


def unsupported(loader: DataLoader[Any]) -> str:
    """Return why no run with this loader can be resumed exactly; an empty text where it can."""
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    if isinstance(loader.dataset, IterableDataset):
        return 'its data set is an iterable without indices'
    if loader.batch_sampler is None:
        return 'its loader has no batches'
    if isinstance(sampler, RandomSampler) and sampler.generator is None:
        return 'its sampler draws from the random numbers of the training'
    return '' if getattr(loader, 'in_order', True) else 'its loader gives batches in the order in which they are ready'


def difference(state: ResumeState, loader: DataLoader[Any], seed: int | None) -> str:
    """Return why a run cannot continue at the batch of a checkpoint; an empty text where it can.

    Args:
        state: State in the checkpoint.
        loader: Loader of this run.
        seed: Seed of this run.
    """
    if len(state.processes) != get_world_size():
        return f'the saved run had {len(state.processes)} processes, this run has {get_world_size()}'
    own = state.own
    pairs = (('batches per epoch', own['length'], len(loader)),
             ('seed', own['seed'], seed),
             ('num_workers', own['num_workers'], loader.num_workers),
             ('batch_size', own['batch_size'], _batch_size(loader)))
    return '; '.join(f'{what} was {was} in the saved run and is {now} now' for what, was, now in pairs if was != now)


def about_as_far(state: ResumeState, loader: DataLoader[Any]) -> int:
    """Return the batches of a pass that have about as many images as the saved run has had of it.

    Args:
        state: State in the checkpoint.
        loader: Loader of this run, of batches of another size or in other processes.
    """
    before, now = [process['batch_size'] for process in state.processes], _batch_size(loader)
    batches = state.batches
    if now is not None and None not in before:
        batches = round(batches * sum(before) / (now * get_world_size()))
    ends = state.batches < state.processes[0]['length']  # InfiniteSampler gives more batches than its length
    return min(batches, len(loader) - 1) if ends else batches


class WorkerStates:
    """Random states of a loader's workers after the batches that training has had.

    Workers are ahead of training by the batches that they prefetch, so each writes its state into memory shared with
    the main process after every batch, and the main process reads that of the last batch which it was given. Nothing
    that the workers draw changes.

    Args:
        loader: Loader before its first iteration. With ``num_workers=0`` it is left as it is. None where no states are
            to be known.
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
        self._init = _InitWorker(loader.worker_init_fn, self._ids)
        loader.collate_fn = _CollateAndRecord(loader.collate_fn, self._ring)
        loader.worker_init_fn = self._init

    def start_pass(self, states: Sequence[Tensor | None] | None) -> None:
        """Let workers start with some states, until :meth:`pass_started`.

        Args:
            states: One for each worker, or None for one that the loader seeds; None where nothing is to be restored.
        """
        if self.workers and (states is not None or not self._persistent):
            self.reset(states)
            self._init.states = list(self._initial)

    def pass_started(self) -> None:
        """Let the loader seed workers that a pass may start later."""
        if self.workers:
            self._init.states = [None] * self.workers

    def reset(self, states: Sequence[Tensor | None] | None = None) -> None:
        """Forget the batches of the last pass, unless the loader keeps its workers.

        Args:
            states: Initial states of the workers; None, the default, where the loader seeds them.
        """
        if states is not None or not self._persistent:
            self._initial = list(states or [None] * self.workers)
            self._consumed = [0] * self.workers

    def count_batch(self, batch: int) -> None:
        """Note that training was given a batch.

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
        """Return the state of each worker after the last of its batches that training was given.

        It is None for a worker that is as the loader has seeded it.
        """
        return [self._state(worker, count) for worker, count in enumerate(self._consumed)]

    def _state(self, worker: int, count: int) -> Tensor | None:
        if count and int(self._ids[worker]) != self._processes[worker]:
            return None  # was started anew since
        return self._ring[worker, (count - 1) % self._ring.shape[1]].clone() if count else self._initial[worker]


class _CollateAndRecord:
    """Makes a batch, then records the worker's random state; an empty batch has no effect and is None."""

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


class _InitWorker:
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
