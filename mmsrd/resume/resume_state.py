"""What a checkpoint keeps so that the data and random numbers after a resume are those of an undisturbed run."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Sequence

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from ..utils.random_state import random_state, set_random_state


@dataclass
class ResumeState:
    """Where training is.

    Attributes:
        passes: Passes over the data that are behind.
        batches: Batches of the next one that are behind, in each process.
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
        """Of a loop; all processes must call it."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        own = dict(cpu=random_state(), cuda=cuda, workers=list(workers), num_workers=loop.dataloader.num_workers,
                   batch_size=_batch_size(loop.dataloader), length=len(loop.dataloader), seed=loop.runner.seed)
        return cls(passes, batches, all_gather_object(own), loop.validated, loop.validating,
                   loop.preempted)

    @property
    def own(self) -> dict[str, Any]:
        """The entry of this process."""
        own: dict[str, Any] = self.processes[get_rank()]
        return own

    @property
    def workers(self) -> list[Tensor | None]:
        """States that the workers of this process begin with."""
        saved = self.own['workers'] or [None] * self.own['num_workers']
        return [None if state is None else state.cpu() for state in saved]  # MMEngine loads onto the device

    def restore(self) -> None:
        """Set the random states of this process."""
        set_random_state(self.own['cpu'].cpu())
        if self.own['cuda'] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.own['cuda'].cpu())

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint: tensors, numbers and containers."""
        return asdict(self)


def _batch_size(loader: DataLoader[Any]) -> Any:
    return getattr(loader.batch_sampler, 'batch_size', loader.batch_size)


def unsupported(loader: DataLoader[Any]) -> str:
    """Why no run with this loader can be resumed exactly; empty where it can."""
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    if isinstance(loader.dataset, IterableDataset):
        return 'its data set is an iterable without indices'
    if loader.batch_sampler is None:
        return 'its loader has no batches'
    if isinstance(sampler, RandomSampler) and sampler.generator is None:
        return 'its sampler draws from the random numbers of the training'
    return '' if getattr(loader, 'in_order', True) else 'its loader gives batches in the order in which they are ready'


def difference(state: ResumeState, loader: DataLoader[Any], seed: int | None) -> str:
    """Why a run cannot go on at the batch of a checkpoint; empty where it can."""
    if len(state.processes) != get_world_size():
        return f'the saved run had {len(state.processes)} processes, this run has {get_world_size()}'
    own = state.own
    pairs = (('batches in an epoch', own['length'], len(loader)),
             ('as its seed', own['seed'], seed),
             ('workers', own['num_workers'], loader.num_workers),
             ('images in a batch', own['batch_size'], _batch_size(loader)))
    return '; '.join(f'the saved run had {was} {what}, this run has {now}' for what, was, now in pairs if was != now)
