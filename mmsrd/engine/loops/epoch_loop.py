"""MMEngine's loop by epochs, resumable anywhere."""
from __future__ import annotations

from typing import Any

from mmengine.runner import EpochBasedTrainLoop

from .resumable_loop import ResumableLoop


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
            self._workers.took(idx)
            self._done = idx + 1
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._done = 0
