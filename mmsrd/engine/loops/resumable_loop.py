"""What train loops need to go on after a resume at the very batch, with the random states of the checkpoint."""
from __future__ import annotations

import contextlib
import itertools
import logging
from typing import Any, Iterator, Mapping, cast

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from ...utils.random_state import preserved_random_state
from .remaining_batches import skip_batches
from .resume_state import ResumeState, difference
from .worker_states import WorkerStates


class ResumableLoop:
    """What both loops have in common; stands before a loop of MMEngine among the bases.

    An undisturbed run is MMEngine's, number for number.

    Attributes:
        validated: Whether the run has validated, also before it was resumed.
        validating: Whether it does so now.
    """

    runner: Any
    dataloader: DataLoader[Any]

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(dataloader, Mapping):  # as MMEngine does it, which would begin to load at once
            seeds = runner._randomness_cfg.get('diff_rank_seed', False)
            dataloader = runner.build_dataloader(dataloader, seed=runner.seed, diff_rank_seed=seeds)
        self._workers = WorkerStates(dataloader)
        self._resumed: ResumeState | None = None
        self._done = 0
        self.validated = False
        self.validating = False
        super().__init__(runner, self._data_of(dataloader), *args, **kwargs)  # type: ignore[call-arg]
        self.dataloader = dataloader

    def _data_of(self, dataloader: DataLoader[Any]) -> Any:
        return dataloader

    def passes_of(self, meta: Mapping[str, Any]) -> tuple[int, int]:
        """Passes over the data that a checkpoint with this ``meta`` has behind it, and batches of the next one."""
        raise NotImplementedError

    def resume_state(self, meta: Mapping[str, Any]) -> ResumeState:
        """Where training is when a checkpoint is saved; all processes must call it.

        Args:
            meta: Of the checkpoint.
        """
        passes, batches = self.passes_of(meta)
        states = self._workers.states() if batches or self.dataloader.persistent_workers else []
        return ResumeState.of(self, passes, batches, states)

    def go_on(self, state: ResumeState) -> None:
        """Begin where a checkpoint was saved, if the run is the same; else as MMEngine does, with a warning."""
        self.validated = state.validated
        differs = difference(state, self.dataloader)
        if differs:
            print_log(f'Resumed without the order of the data and the random states of the checkpoint: {differs}',
                      logger='current', level=logging.WARNING)
        else:
            self._resumed = state

    def _iterate(self, skip: int, free: bool) -> Iterator[Any]:
        """Begin a pass over the data after ``skip`` batches; if ``free``, without drawing a random number for it."""
        state = self._resumed
        self._workers.begin(None if state is None else state.workers)
        empty = skip_batches(self.dataloader, skip) if skip else 0
        with preserved_random_state() if free else contextlib.nullcontext():
            iterator = iter(self.dataloader)
        self._workers.began()
        return itertools.islice(iterator, empty, None)

    def _validation_is_due(self) -> bool:
        """Whether MMEngine validates where the loop is now."""
        loop = cast(Any, self)
        loop._decide_current_val_interval()
        count, last = (loop._epoch, loop._max_epochs) if isinstance(self, EpochBasedTrainLoop) else (
            loop._iter, loop._max_iters)
        due = count > 0 and count >= loop.val_begin and (count % loop.val_interval == 0 or count == last)
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
