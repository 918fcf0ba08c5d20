"""``ExactResumeHook``: where a run is in its data and random numbers, saved and restored with checkpoints."""
from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ...registry import HOOKS
from ...utils.random_state import random_state, set_random_state
from ..loops import ResumableLoop, ResumeState
from .distill_hook import CHECKPOINT_KEY

KEY = 'resume'
"""Where the part of a checkpoint that belongs to distillation keeps it."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run go on with the same images, and the same random numbers, as one that was left alone.

    Saves the random states of Python, NumPy, PyTorch and CUDA of each process and of the processes that load its
    data, and how far the pass over the data is. An undisturbed run is not changed. Acts with MMEngine's two train
    loops; ``exact_resume=False`` in the ``distill`` block leaves it out.

    As with FSDP, all processes must call ``runner.save_checkpoint``, as MMEngine's own hooks do.
    """

    def __init__(self) -> None:
        self._before_val: Tensor | None = None
        self._first_val = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add where training is."""
        if isinstance(runner.train_loop, ResumableLoop):
            state = runner.train_loop.resume_state(checkpoint['meta'])
            checkpoint.setdefault(CHECKPOINT_KEY, {})[KEY] = state.as_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Tell the train loop where a resumed run was."""
        saved = checkpoint.get(CHECKPOINT_KEY, {}).get(KEY)
        if runner._resume and saved is not None and isinstance(runner.train_loop, ResumableLoop):
            runner.train_loop.go_on(ResumeState(**saved))

    def before_val(self, runner: Runner) -> None:
        """Remember the random state where an undisturbed run would have the workers of an earlier validation."""
        loop = runner._train_loop
        if not isinstance(loop, ResumableLoop):
            return
        if self._first_val and loop.validated and runner.val_loop.dataloader.persistent_workers:
            self._before_val = random_state()
        self._first_val = False
        loop.validated = loop.validating = True

    def after_val(self, runner: Runner) -> None:
        """Restore it."""
        if isinstance(runner._train_loop, ResumableLoop):
            runner._train_loop.validating = False
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None
