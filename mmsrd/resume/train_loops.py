"""MMEngine's two train loops, which go on after a resume at the very batch, with the checkpoint's random states."""
from __future__ import annotations

import contextlib
import itertools
import logging
from typing import Any, Callable, Iterator, Mapping, cast

import mmengine
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmengine.utils import digit_version
from torch.utils.data import DataLoader

from ..utils.random_state import preserved_random_state
from .data_workers import WorkerStates, outlive_signals
from .resume_state import ResumeState, difference, unsupported

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
        self._exchanged = (epoch, iteration), ResumeState.from_loop(self, passes, batches, states)

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

    def resume_from(self, state: ResumeState) -> None:
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
        self._workers.started()
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


class ResumableEpochLoop(ResumableLoop, EpochBasedTrainLoop):
    """By epochs. A checkpoint of the middle of an epoch resumes there."""

    def passes_of(self, epoch: int) -> tuple[int, int]:
        """See :meth:`ResumableLoop.passes_of`."""
        return epoch, 0 if epoch > self._epoch else self._done

    def _reached(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs

    def run(self) -> Any:
        """Train; as MMEngine's."""
        if self.starts_pass_again:  # schedules and the number of steps count on it
            self._iter = self._epoch * len(self.dataloader)
        return super().run()

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        state, self._resumed = self._resumed, None
        skip = state.batches if state is not None else 0
        if state is not None and not skip:
            self._restore(state)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        batches = self._iterate(state, free=state is not None and (skip > 0 or self.dataloader.persistent_workers))
        if state is not None and skip:
            state.restore()
        self._done = skip
        for idx, data_batch in enumerate(batches, skip):
            self._workers.count_batch(idx)
            self._done = idx + 1
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._done = 0


class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """By iterations. Batches that a resumed run has had are skipped without loading them, unlike in MMEngine."""

    def _data_of(self, dataloader: DataLoader[Any]) -> Any:
        # MMEngine begins to load here; batches that a resumed run has had would be taken from its sampler.
        return _DatasetOnly(dataloader) if self._will_resume else dataloader

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        self._will_resume = runner.resumes_from() is not None
        super().__init__(runner, dataloader, *args, **kwargs)

    def passes_of(self, epoch: int) -> tuple[int, int]:
        """See :meth:`ResumableLoop.passes_of`."""
        return self.dataloader_iterator._epoch, self._done

    def _reached(self) -> tuple[int, int]:
        return self._iter, self._max_iters

    def run(self) -> Any:
        """Train; as MMEngine's, but a resumed run goes on where it was."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        state, self._resumed = self._resumed, None
        if self._will_resume:
            self._resume_iterator(state)
        if state is not None:
            self._done = state.batches
            self._restore(state)
        else:
            for _ in range(self._iter):  # of a checkpoint that does not say where it is, or a runner resumed by hand
                self._next()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(self._next())
            if self._validation_is_due():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _resume_iterator(self, state: ResumeState | None) -> None:
        passes = 0 if state is None else state.passes
        if passes:
            sampler = getattr(self.dataloader.sampler, 'set_epoch', None) or getattr(
                getattr(self.dataloader.batch_sampler, 'sampler', None), 'set_epoch', None)
            if sampler is not None:
                sampler(passes)
        batches = self._iterate(state, free=True)
        self.dataloader_iterator = _InfiniteDataloaderIterator(cast(Any, _DatasetOnly(self.dataloader)))
        self.dataloader_iterator._dataloader = self.dataloader
        self.dataloader_iterator._iterator, self.dataloader_iterator._epoch = cast(Any, batches), passes

    def _next(self) -> Any:
        before = self.dataloader_iterator._epoch
        batch = next(self.dataloader_iterator)
        if self.dataloader_iterator._epoch != before:
            self._done = 0
            self._workers.restarted()
        self._workers.count_batch(self._done)
        self._done += 1
        return batch


class _DatasetOnly:
    """A loader that is asked for nothing but what its dataset is."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class RemainingBatches:
    """Batch sampler that leaves out the first batches of its first pass; later passes are whole.

    Args:
        sampler: Batch sampler that gives the indices. What it counts and shuffles goes on as if nothing was left out.
        skip: Batches to leave out.
        empty: Empty batches to give in their place, so that each batch meets the worker that it would have met.
    """

    def __init__(self, sampler: Any, skip: int, empty: int) -> None:
        self._sampler = sampler
        self._skip = skip
        self._empty = empty

    def __iter__(self) -> Iterator[Any]:
        # A generator: what begins a pass is its first batch, not this call, which PyTorch makes twice.
        skip, self._skip = self._skip, 0
        empty, self._empty = self._empty, 0
        yield from ([] for _ in range(empty))
        yield from itertools.islice(iter(self._sampler), skip, None)

    def __len__(self) -> int:
        """Of a whole pass, which hooks count by."""
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['_sampler'], name)  # by vars: copies ask before there is one


def skip_batches(loader: DataLoader[Any], skip: int) -> int:
    """Let the next pass over ``loader`` begin after ``skip`` batches.

    Args:
        loader: Stays the same object; workers of an earlier pass are given up.
        skip: Batches to leave out.

    Returns:
        int: How many batches at the beginning of that pass are None and are to be dropped.
    """
    empty = skip % loader.num_workers if loader.num_workers else 0
    # DataLoader refuses an assignment; hooks of the toolboxes change loaders in the same way.
    vars(loader)['batch_sampler'] = RemainingBatches(loader.batch_sampler, skip, empty)
    vars(loader)['_iterator'] = None
    return empty


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
