"""MMEngine's loop by iterations, resumable anywhere."""
from __future__ import annotations

from typing import Any, Iterator, cast

from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from .resumable_loop import ResumableLoop
from .resume_state import ResumeState


class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """By iterations. Batches that a resumed run has had are skipped without loading them, unlike in MMEngine."""

    def _data_of(self, dataloader: DataLoader[Any]) -> Any:
        # MMEngine begins to load here; batches that a resumed run has had would be taken from its sampler.
        return _NotYet(dataloader) if self._will_resume else dataloader

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
            self._begin_again(state)
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

    def _begin_again(self, state: ResumeState | None) -> None:
        passes = 0 if state is None else state.passes
        if passes:
            sampler = getattr(self.dataloader.sampler, 'set_epoch', None) or getattr(
                getattr(self.dataloader.batch_sampler, 'sampler', None), 'set_epoch', None)
            if sampler is not None:
                sampler(passes)
        batches = self._iterate(state, free=True)
        self.dataloader_iterator = _InfiniteDataloaderIterator(cast(Any, _NotYet(self.dataloader)))
        self.dataloader_iterator._dataloader = self.dataloader
        self.dataloader_iterator._iterator, self.dataloader_iterator._epoch = cast(Any, batches), passes

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
