"""Train loops of MMEngine that resume exactly."""
from __future__ import annotations

from typing import Any, Mapping

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from .epoch_loop import ResumableEpochLoop
from .iter_loop import ResumableIterLoop
from .resumable_loop import ResumableLoop
from .resume_state import ResumeState
from .worker_signals import outlive_signals

__all__ = ['ResumableEpochLoop', 'ResumableIterLoop', 'ResumableLoop', 'ResumeState', 'outlive_signals', 'resumable']

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
