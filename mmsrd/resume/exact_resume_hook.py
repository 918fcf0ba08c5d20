"""``ExactResumeHook``: position in the data and random states, saved and restored with checkpoints."""
from __future__ import annotations

from dataclasses import asdict
from typing import Any, Optional, Sequence

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from ..registry import HOOKS
from ..utils.random_state import random_state, set_random_state
from .resume_state import ResumeState
from .train_loops import ResumableLoop


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run continue with the same images and random numbers as an uninterrupted run.

    Saves the random states of Python, NumPy, PyTorch and CUDA of each process and of the processes that load its
    data, and how far the pass over the data is. An undisturbed run is not changed. Acts with MMEngine's two train
    loops; ``exact_resume=False`` in the ``distill`` block turns it off.

    Processes gather their states when a ``CheckpointHook`` of the config is about to save; a checkpoint that
    something else saves in the first process alone has none where there are several processes.

    Args:
        place: Keys, one below the other, under which a checkpoint keeps the state; ``('resume',)`` by default.
    """

    priority = 89  # just before CheckpointHook, which is VERY_LOW

    def __init__(self, place: Sequence[str] = ('resume',)) -> None:
        self.place = tuple(place)
        self._before_val: Tensor | None = None
        self._first_val = True

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """Gather random states before a checkpoint of this iteration."""
        hooks = _checkpoint_hooks(runner, by_epoch=False)
        due = any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in hooks)
        if hooks and (due or runner.iter + 1 == runner.max_iters) and isinstance(runner.train_loop, ResumableLoop):
            runner.train_loop.gather_states(runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner: Runner, metrics: Optional[dict[str, float]] = None) -> None:
        """Gather random states before a checkpoint of this epoch."""
        hooks = _checkpoint_hooks(runner, by_epoch=True)
        due = any(hook.every_n_epochs(runner, hook.interval, hook.save_begin) for hook in hooks)
        if hooks and (due or runner.epoch + 1 == runner.max_epochs) and isinstance(runner.train_loop, ResumableLoop):
            runner.train_loop.gather_states(runner.epoch + 1, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict[str, float]] = None) -> None:
        """Restore the state that :meth:`before_val` kept; gather random states before a best checkpoint."""
        self._restore()
        loop = runner._train_loop
        best = any(hook.save_best for hook in runner.hooks if isinstance(hook, CheckpointHook))
        if best and isinstance(loop, ResumableLoop):
            loop.gather_states(runner.epoch, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the state of the run."""
        if not isinstance(runner.train_loop, ResumableLoop):
            return
        meta = checkpoint['meta']
        given = getattr(runner, 'saved_meta', {})  # FlexibleRunner puts others in their place
        meta.update({key: given[key] for key in ('epoch', 'iter') if key in given})
        state = runner.train_loop.resume_state(meta['epoch'], meta['iter'])
        if state is not None:
            *above, key = self.place
            for name in above:
                checkpoint = checkpoint.setdefault(name, {})
            checkpoint[key] = asdict(state)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Give the train loop the state of a resumed run."""
        saved: Any = checkpoint
        for name in self.place:
            saved = None if saved is None else saved.get(name)
        if runner._resume and saved is not None and isinstance(runner.train_loop, ResumableLoop):
            runner.train_loop.resume_from(ResumeState(**saved))

    def before_val(self, runner: Runner) -> None:
        """Keep the random state where an uninterrupted run would reuse its workers, and so draw no seed for them."""
        loop = runner._train_loop
        if not isinstance(loop, ResumableLoop):
            return
        if self._first_val and loop.validated and runner.val_loop.dataloader.persistent_workers:
            self._before_val = random_state()
        self._first_val = False
        loop.validated = loop.validating = True

    def after_val(self, runner: Runner) -> None:
        """Restore the state that :meth:`before_val` kept."""
        if isinstance(runner._train_loop, ResumableLoop):
            runner._train_loop.validating = False
        self._restore()

    def _restore(self) -> None:
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None


def _checkpoint_hooks(runner: Runner, by_epoch: bool) -> list[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.by_epoch == by_epoch]
