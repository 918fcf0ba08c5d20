"""MMEngine's train loops, which go on after a resume at the very batch and with the random states of the checkpoint."""
from __future__ import annotations

import contextlib
import itertools
import logging
from typing import Any, Iterator, Mapping, cast

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from ...utils.random_state import preserved_random_state
from .remaining_batches import skip_batches
from .resume_state import ResumeState, difference
from .worker_states import WorkerStates

_BY_EPOCH = 'EpochBasedTrainLoop', EpochBasedTrainLoop
_BY_ITERATIONS = 'IterBasedTrainLoop', IterBasedTrainLoop


def resumable(loop: Any) -> Any:
    """A config of one of MMEngine's two train loops, of the loop here that takes its place; others as they are.

    Args:
        loop: ``train_cfg``.
    """
    if not isinstance(loop, Mapping):
        return loop
    options = dict(loop)
    by_epoch = options.pop('by_epoch', None)
    kind = options.pop('type', None)
    if kind in _BY_EPOCH or (kind is None and by_epoch):
        return dict(options, type=ResumableEpochLoop)
    if kind in _BY_ITERATIONS or (kind is None and by_epoch is False):
        return dict(options, type=ResumableIterLoop)
    return loop


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


class ResumableEpochLoop(ResumableLoop, EpochBasedTrainLoop):
    """By epochs. A checkpoint of the middle of an epoch resumes there."""

    def passes_of(self, meta: Mapping[str, Any]) -> tuple[int, int]:
        """See :meth:`ResumableLoop.passes_of`."""
        return meta['epoch'], 0 if meta['epoch'] > self._epoch else self._done

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        state = self._resumed
        skip = state.batches if state is not None else 0
        if state is not None and not skip:
            self._restore(state)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        batches = self._iterate(skip, free=state is not None and (skip > 0 or self.dataloader.persistent_workers))
        if state is not None and skip:
            state.restore()
        self._resumed = None
        self._done = skip
        for idx, data_batch in enumerate(batches, skip):
            self._workers.took(idx)
            self._done = idx + 1
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._done = 0


class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """By iterations. Batches that a resumed run has had are skipped without loading them, unlike in MMEngine."""

    def _data_of(self, dataloader: DataLoader[Any]) -> Any:
        # MMEngine begins to load here; batches that a resumed run has had would be taken from its sampler.
        return _NotYet(dataloader) if self._will_resume else dataloader

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        self._will_resume = runner.resumes_from() is not None
        super().__init__(runner, dataloader, *args, **kwargs)

    def passes_of(self, meta: Mapping[str, Any]) -> tuple[int, int]:
        """See :meth:`ResumableLoop.passes_of`."""
        return self.dataloader_iterator._epoch, self._done

    def run(self) -> Any:
        """Train; as MMEngine's, but a resumed run goes on where it was."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._will_resume:
            self._begin_again()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(self._next())
            if self._validation_is_due():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _begin_again(self) -> None:
        state, passes = self._resumed, 0
        if state is not None:
            passes = state.passes
            sampler = getattr(self.dataloader.sampler, 'set_epoch', None) or getattr(
                getattr(self.dataloader.batch_sampler, 'sampler', None), 'set_epoch', None)
            if passes and sampler is not None:
                sampler(passes)
        batches = self._iterate(0 if state is None else state.batches, free=True)
        self.dataloader_iterator = _InfiniteDataloaderIterator(cast(Any, _NotYet(self.dataloader)))
        self.dataloader_iterator._dataloader = self.dataloader
        self.dataloader_iterator._iterator, self.dataloader_iterator._epoch = cast(Any, batches), passes
        if state is None:
            for _ in range(self._iter):
                self._next()
        else:
            self._done = state.batches
            self._restore(state)
        self._resumed = None

    def _next(self) -> Any:
        before = self.dataloader_iterator._epoch
        batch = next(self.dataloader_iterator)
        if self.dataloader_iterator._epoch != before:
            self._done = 0
            self._workers.restarted()
        self._workers.took(self._done)
        self._done += 1
        return batch


class _NotYet:
    """A loader that is asked for nothing but what its dataset is."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())
