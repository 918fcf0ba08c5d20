"""MMEngine's two train loops, which continue after a resume at the very batch, with the checkpoint's random states."""
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
from torch import Tensor
from torch.utils.data import DataLoader

from ..registry import engine_name
from ..utils.random_state import preserved_random_state
from .resume_state import ResumeState, WorkerStates, about_as_far, difference, unsupported
from .signals_and_forks import outlive_signals

VALIDATES_AT_THE_END = digit_version(mmengine.__version__) >= digit_version('0.10.4')
"""Whether MMEngine validates at the end also where the interval does not divide the length."""


class ResumableLoop:
    """Common part of both loops; stands before a loop of MMEngine among the bases.

    An undisturbed run is MMEngine's, number for number.

    Attributes:
        validated: Whether the run has validated, also before it was resumed.
        validating: Whether it does so now.
        preempted: Whether the process ends after the next checkpoint.
        elsewhere: State of a resumed run that cannot continue at the same batch, because its data are arranged
            otherwise; None for any other run.
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
        if self._unsupported:
            print_log(f'Training cannot be resumed at the same batch, because {self._unsupported}',
                      logger='current', level=logging.WARNING)
        self._workers = WorkerStates(dataloader if not self._unsupported else None)
        outlive_signals(dataloader, runner.handled_signals)
        self._resumed: ResumeState | None = None
        self._gathered: tuple[tuple[int, int], ResumeState | None] = (-1, -1), None
        self._batches_done = 0
        self.elsewhere: ResumeState | None = None
        self.validated = False
        self.validating = False
        self.preempted = False
        super().__init__(runner, self._base_loader(dataloader), *args, **kwargs)  # type: ignore[call-arg]
        self.dataloader = dataloader

    def _base_loader(self, dataloader: DataLoader[Any]) -> Any:
        """Return the loader that MMEngine's loop is made with."""
        return dataloader

    def data_position(self, epoch: int) -> tuple[int, int]:
        """Return the passes over the data that are done at a checkpoint of ``epoch``, and batches of the next one."""
        raise NotImplementedError

    def _progress(self) -> tuple[int, int]:
        """Return the epochs or iterations that are done, and how many there are in all."""
        raise NotImplementedError

    def gather_states(self, epoch: int, iteration: int) -> None:
        """Gather the random states of all processes; all must call it, just before a checkpoint is saved.

        Args:
            epoch: ``meta['epoch']`` of the checkpoint.
            iteration: ``meta['iter']`` of it.
        """
        if self._unsupported:
            return
        passes, batches = self.data_position(epoch)
        states = self._workers.states() if batches or self.dataloader.persistent_workers else []
        self._gathered = (epoch, iteration), ResumeState.from_loop(self, passes, batches, states)

    def resume_state(self, epoch: int, iteration: int) -> ResumeState | None:
        """Return the state of the run for a checkpoint.

        MMEngine saves in the first process alone, so there are no collectives here.

        Args:
            epoch: ``meta['epoch']`` of the checkpoint.
            iteration: ``meta['iter']`` of it.

        Returns:
            ResumeState: None where the states of several processes have not been gathered for it.
        """
        if get_world_size() == 1:
            self.gather_states(epoch, iteration)
        known, state = self._gathered
        return state if known == (epoch, iteration) else None

    def resume_from(self, state: ResumeState) -> None:
        """Begin at the position of a checkpoint, if the run is the same; else as MMEngine does, with a warning."""
        self.validated = state.validated
        differs = difference(state, self.dataloader, self.runner.seed)
        if differs:
            self.elsewhere = state
            print_log(f'The order of the data and the random states of the checkpoint are not restored: {differs}',
                      logger='current', level=logging.WARNING)
        else:
            self._resumed = state

    def _start_pass(self, skip: int, workers: list[Tensor | None] | None, keep_random_state: bool) -> Iterator[Any]:
        """Begin a pass over the data.

        Args:
            skip: Batches to leave out.
            workers: Random states of the workers in a resumed run; None where nothing is to be restored.
            keep_random_state: Whether to leave this process's random numbers as they are.

        Returns:
            Iterator: The batches that are left of the pass.
        """
        self._workers.start_pass(workers)
        empty = skip_batches(self.dataloader, skip) if skip else 0
        with preserved_random_state() if keep_random_state else contextlib.nullcontext():
            iterator = iter(self.dataloader)
        self._workers.pass_started()
        return itertools.islice(iterator, empty, None)

    def _validation_is_due(self) -> bool:
        """Return whether MMEngine validates where the loop is now."""
        self._decide_current_val_interval()
        count, last = self._progress()
        due = count > 0 and count >= self.val_begin and (
            count % self.val_interval == 0 or (count == last and VALIDATES_AT_THE_END))
        return bool(due and self.runner.val_loop is not None)

    def _restore(self, state: ResumeState) -> None:
        """Set the random states; run a validation that came after the checkpoint, or draw the numbers that it drew."""
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
    """Loop by epochs. A checkpoint of the middle of an epoch resumes there."""

    def data_position(self, epoch: int) -> tuple[int, int]:
        """See :meth:`ResumableLoop.data_position`."""
        return epoch, 0 if epoch > self._epoch else self._batches_done

    def _progress(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs

    def run(self) -> Any:
        """Train as MMEngine does."""
        if self.elsewhere is not None:  # the epoch starts again, and may have another length
            self._iter, before = self._epoch * len(self.dataloader), self._iter
            if self._iter != before:
                print_log(f'Epoch {self._epoch + 1} begins at iteration {self._iter}, and the checkpoint was saved at '
                          f'{before}. Learning rates that change by iteration go on where they were', logger='current',
                          level=logging.WARNING)
            if hasattr(self.runner.optim_wrapper, 'initialize_count_status'):  # DeepSpeed counts by itself
                self.runner.optim_wrapper.initialize_count_status(self.runner.model, self._iter, self._max_iters)
        return super().run()

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        state, self._resumed = self._resumed, None
        skip = state.batches if state is not None else 0
        if state is not None and not skip:
            self._restore(state)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        keep = state is not None and (skip > 0 or self.dataloader.persistent_workers)
        batches = self._start_pass(skip, None if state is None else state.workers, keep_random_state=keep)
        if state is not None and skip:
            state.restore()
        self._batches_done = skip
        for idx, data_batch in enumerate(batches, skip):
            self._workers.count_batch(idx)
            self._batches_done = idx + 1
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._batches_done = 0


class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """Loop by iterations. Batches that a resumed run has had are skipped without loading them, unlike in MMEngine."""

    def _base_loader(self, dataloader: DataLoader[Any]) -> Any:
        # MMEngine begins to load here; batches that a resumed run has had would be taken from its sampler.
        return _LoaderWithoutBatches(dataloader) if self._will_resume else dataloader

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        self._will_resume = runner.resumes_from() is not None
        super().__init__(runner, dataloader, *args, **kwargs)

    def data_position(self, epoch: int) -> tuple[int, int]:
        """See :meth:`ResumableLoop.data_position`."""
        return self.dataloader_iterator._epoch, self._batches_done

    def _progress(self) -> tuple[int, int]:
        return self._iter, self._max_iters

    def run(self) -> Any:
        """Train as MMEngine does, but a resumed run continues where it was."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        state, self._resumed = self._resumed, None
        if self._will_resume:
            self._resume_iterator(state)
        if state is not None:
            self._restore(state)
        elif self._iter and self.elsewhere is None:  # a checkpoint that does not say where it is, or resumed by hand
            print_log(f'Loading the {self._iter} batches that the run has had, because the checkpoint does not say '
                      'where in its data it was', logger='current', level=logging.WARNING)
            for _ in range(self._iter):
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
        passes, skip, workers = (0, 0, None) if state is None else (state.passes, state.batches, state.workers)
        if self.elsewhere is not None:
            passes, skip = self.elsewhere.passes, about_as_far(self.elsewhere, self.dataloader)
        if passes:
            sampler = getattr(self.dataloader.sampler, 'set_epoch', None) or getattr(
                getattr(self.dataloader.batch_sampler, 'sampler', None), 'set_epoch', None)
            if sampler is not None:
                sampler(passes)
        batches = self._start_pass(skip, workers, keep_random_state=True)
        self._batches_done = skip
        self.dataloader_iterator = _InfiniteDataloaderIterator(cast(Any, _LoaderWithoutBatches(self.dataloader)))
        self.dataloader_iterator._dataloader = self.dataloader
        self.dataloader_iterator._iterator, self.dataloader_iterator._epoch = cast(Any, batches), passes

    def _next(self) -> Any:
        before = self.dataloader_iterator._epoch
        batch = next(self.dataloader_iterator)
        if self.dataloader_iterator._epoch != before:
            self._batches_done = 0
            self._workers.reset()
        self._workers.count_batch(self._batches_done)
        self._batches_done += 1
        return batch


class _LoaderWithoutBatches:
    """Loader without batches, which MMEngine asks for its dataset."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class RemainingBatches:
    """Batch sampler that leaves out the first batches of its first pass; later passes are whole.

    Args:
        sampler: Batch sampler that gives the indices. It counts and shuffles as if nothing was left out.
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
        """Return the length of a whole pass, which hooks count by."""
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['_sampler'], name)  # by vars: copies ask before there is one


def skip_batches(loader: DataLoader[Any], skip: int) -> int:
    """Let the next pass over a loader begin after some batches.

    Args:
        loader: Stays the same object; workers of an earlier pass are given up.
        skip: Batches to leave out.

    Returns:
        int: Number of batches at the beginning of that pass that are None and are to be dropped.
    """
    empty = skip % loader.num_workers if loader.num_workers else 0
    # DataLoader refuses an assignment; hooks of the toolboxes change loaders in the same way.
    vars(loader)['batch_sampler'] = RemainingBatches(loader.batch_sampler, skip, empty)
    vars(loader)['_iterator'] = None
    return empty


def resumable(loop: Any) -> Any:
    """Return a config of the loop here that takes the place of one of MMEngine's two; other loops as they are.

    Args:
        loop: ``train_cfg`` of the training.
    """
    if not isinstance(loop, Mapping):
        return loop
    options = dict(loop)
    by_epoch = options.pop('by_epoch', None)
    kind = engine_name(options.pop('type', None))
    if kind == 'EpochBasedTrainLoop' or (kind is None and by_epoch):
        return dict(options, type=ResumableEpochLoop)
    if kind == 'IterBasedTrainLoop' or (kind is None and by_epoch is False):
        return dict(options, type=ResumableIterLoop)
    return loop
