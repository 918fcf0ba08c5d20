"""What train loops need to go on after a resume at the very batch, with the random states of the checkpoint."""
from __future__ import annotations

import contextlib
import itertools
import logging
from typing import Any, Callable, Iterator, Mapping

import mmengine
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.utils import digit_version
from torch.utils.data import DataLoader

from ...utils.random_state import preserved_random_state
from .remaining_batches import skip_batches
from .resume_state import ResumeState, difference, unsupported
from .worker_signals import outlive_signals
from .worker_states import WorkerStates

VALIDATES_AT_THE_END = digit_version(mmengine.__version__) >= digit_version('0.10.4')
"""Whether MMEngine validates at the end also where the interval does not divide the length."""


class ResumableLoop:
    """What both loops have in common; stands before a loop of MMEngine among the bases.

    An undisturbed run is MMEngine's, number for number.

    Attributes:
        validated: Whether the run has validated, also before it was resumed.
        validating: Whether it does so now.
        preempted: Whether the process ends after the next checkpoint.
        starts_pass_again: Whether the run was resumed in the middle of a pass and cannot go on there.
    """

    runner: Any
    val_begin: int
    val_interval: int
    _decide_current_val_interval: Callable[[], None]
    dataloader: DataLoader[Any]

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(dataloader, Mapping):  # as MMEngine does it, which would begin to load at once
            seeds = runner._randomness_cfg.get('diff_rank_seed', False)
            dataloader = runner.build_dataloader(dataloader, seed=runner.seed, diff_rank_seed=seeds)
        self._unsupported = unsupported(dataloader)
        self._workers = WorkerStates(dataloader if not self._unsupported else None)
        outlive_signals(dataloader, runner.handled_signals)
        self._resumed: ResumeState | None = None
        self._exchanged: tuple[tuple[int, int], ResumeState | None] = (-1, -1), None
        self._done = 0
        self.starts_pass_again = False
        self.validated = False
        self.validating = False
        self.preempted = False
        super().__init__(runner, self._data_of(dataloader), *args, **kwargs)  # type: ignore[call-arg]
        self.dataloader = dataloader

    def _data_of(self, dataloader: DataLoader[Any]) -> Any:
        return dataloader

    def passes_of(self, epoch: int) -> tuple[int, int]:
        """Passes over the data that a checkpoint of ``epoch`` has behind it, and batches of the next one."""
        raise NotImplementedError

    def _reached(self) -> tuple[int, int]:
        """Epochs or iterations that are behind, and how many there are."""
        raise NotImplementedError

    def exchange(self, epoch: int, iteration: int) -> None:
        """Let all processes know each other's random states; all must call it, just before a checkpoint is saved.

        Args:
            epoch: ``meta['epoch']`` of the checkpoint.
            iteration: ``meta['iter']`` of it.
        """
        if self._unsupported:
            return
        passes, batches = self.passes_of(epoch)
        states = self._workers.states() if batches or self.dataloader.persistent_workers else []
        self._exchanged = (epoch, iteration), ResumeState.of(self, passes, batches, states)

    def resume_state(self, epoch: int, iteration: int) -> ResumeState | None:
        """Where training is, for a checkpoint.

        MMEngine saves in the first process alone, so there are no collectives here.

        Args:
            epoch: ``meta['epoch']`` of the checkpoint.
            iteration: ``meta['iter']`` of it.

        Returns:
            ResumeState: None where there are several processes that have not exchanged their states for it.
        """
        if get_world_size() == 1:
            self.exchange(epoch, iteration)
        known, state = self._exchanged
        return state if known == (epoch, iteration) else None

    def go_on(self, state: ResumeState) -> None:
        """Begin where a checkpoint was saved, if the run is the same; else as MMEngine does, with a warning."""
        self.validated = state.validated
        differs = difference(state, self.dataloader, self.runner.seed)
        if differs:
            self.starts_pass_again = state.batches > 0
            print_log(f'The order of the data and the random states of the checkpoint are not restored: {differs}',
                      logger='current', level=logging.WARNING)
        else:
            self._resumed = state

    def _iterate(self, state: ResumeState | None, free: bool) -> Iterator[Any]:
        """Begin a pass over the data where ``state`` is; if ``free``, without drawing a random number for it."""
        skip = 0 if state is None else state.batches
        self._workers.begin(None if state is None else state.workers)
        empty = skip_batches(self.dataloader, skip) if skip else 0
        with preserved_random_state() if free else contextlib.nullcontext():
            iterator = iter(self.dataloader)
        self._workers.began()
        return itertools.islice(iterator, empty, None)

    def _validation_is_due(self) -> bool:
        """Whether MMEngine validates where the loop is now."""
        self._decide_current_val_interval()
        count, last = self._reached()
        due = count > 0 and count >= self.val_begin and (
            count % self.val_interval == 0 or (count == last and VALIDATES_AT_THE_END))
        return bool(due and self.runner.val_loop is not None)

    def _restore(self, state: ResumeState) -> None:
        """Set the random states; do, or draw what was drawn by, a validation that came after the checkpoint."""
        state.restore()
        if state.validating or not self._validation_is_due():
            return
        if state.preempted:
            self.runner.val_loop.run()
            return
        loader = self.runner.val_loop.dataloader
        if not (loader.persistent_workers and self.validated):
            iter(DataLoader([0]))  # type: ignore[arg-type]  # draws what the beginning of any pass does
        self.validated = True
