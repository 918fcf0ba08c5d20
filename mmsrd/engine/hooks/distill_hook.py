"""``DistillHook``: ties a distiller to the runner's clock and checkpoints."""
from __future__ import annotations

import logging
from typing import Any, Callable, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ...config import Progress
from ...distillers import CHILD, ProjectorDistiller, differences, fingerprint_of, take_classes
from ...errors import CheckpointError, ConfigError
from ...registry import HOOKS
from ...teachers.class_names import names_in
from ...utils.dist import unwrapped
from ..optimizer import restore_order

CHECKPOINT_KEY = 'distiller'
"""Where a checkpoint keeps what belongs to distillation."""


def student_of(runner: Runner) -> nn.Module:
    """The runner's student without a wrapper for distributed training."""
    return unwrapped(runner.model)


def distiller_of(runner: Runner) -> ProjectorDistiller:
    """The distiller of the runner's student, wrapped or not.

    Raises:
        ConfigError: It has none, because a hook of mmsrd is in a config that another runner trains.
    """
    distiller = getattr(student_of(runner), CHILD, None)
    if not isinstance(distiller, ProjectorDistiller):
        raise ConfigError(f"{type(runner).__name__} does not distil, so mmsrd's hooks have nothing to look at; write "
                          "runner_type='mmsrd.DistillRunner' and a `distill` block, or remove them from custom_hooks")
    return distiller


def tell_classes(runner: Runner, dataset: Any) -> None:
    """Tell the distiller which classes the student's training set has."""
    take_classes(distiller_of(runner), student_of(runner), names_in(getattr(dataset, 'metainfo', None)))


def _stop_logging(runner: Runner, chosen: Callable[[str], bool]) -> None:
    """Forget values of the distiller: MMEngine logs the last one of each name, however old it is."""
    logged = runner.message_hub.log_scalars
    for name in [name for name in logged if name.startswith('train/srd_') and chosen(name.partition('/')[2])]:
        del logged[name]


def _compare(saved: dict[str, Any], now: dict[str, Any]) -> None:
    fatal, notable = differences(saved, now)
    if fatal:
        raise CheckpointError(f'resume: {"; ".join(fatal)}: the projectors in the checkpoint were trained for '
                              'something else; use load_from to start a new distillation from the saved weights')
    if notable:
        print_log(f'Resumed with settings that differ from the checkpoint: {"; ".join(notable)}', logger='current',
                  level=logging.WARNING)


@HOOKS.register_module()
class DistillHook(Hook):
    """Keeps the distiller's schedule in step, and saves and restores its projectors.

    The student's ``state_dict`` has no key of the distiller (see
    :mod:`mmsrd.distillers.attach_detach`), so nothing has to be taken out of a
    checkpoint, whatever other hooks (EMA) do with it.
    """

    def before_train(self, runner: Runner) -> None:
        """Check that the schedule fits the train loop; start averages of the student.

        Raises:
            ConfigError: The schedule counts epochs and the loop does not, or it begins after the training.
        """
        schedule = distiller_of(runner).progress.schedule
        by_epoch, length = schedule.by_epoch, runner.max_epochs if schedule.by_epoch else runner.max_iters
        if by_epoch and not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ConfigError.at('distill.schedule.by_epoch', by_epoch, 'the train loop counts iterations; give start '
                                 'and end in iterations')
        if schedule.start >= length:
            unit = 'epochs' if by_epoch else 'iterations'
            raise ConfigError.at('distill.schedule.start', schedule.start, f'the training has {length} {unit}, so '
                                 'nothing would be distilled')
        _stop_logging(runner, lambda name: '/' in name)  # as version 0.1.0 named them, in a run that goes on
        for teacher in distiller_of(runner).teachers.averages.values():
            teacher.begin(student_of(runner))  # weights have been initialised or loaded by now

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None) -> None:
        """Tell the distiller where training is; also right after a resume."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        distiller = distiller_of(runner)
        distiller.progress = Progress(
            distiller.progress.schedule, runner.iter, runner.epoch, len(runner.train_dataloader) if by_epoch else None,
            runner.max_iters, getattr(runner.optim_wrapper, '_accumulative_counts', 1))
        if distiller.progress.over:
            _stop_logging(runner, lambda name: True)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """Let teachers that average the student follow it; take the step's gradient norms into the balances."""
        distiller_of(runner).update_ema(student_of(runner))
        distiller_of(runner).update_balances()

    def after_train(self, runner: Runner) -> None:
        """Look at the losses of the last step."""
        distiller_of(runner).finite.flush()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the projectors, and averages of the student that teach, under a key of their own.

        Raises:
            NonFiniteError: A loss was not finite, so what would be saved is not worth it.
        """
        distiller_of(runner).finite.flush()
        state = distiller_of(runner).state_dict()
        checkpoint[CHECKPOINT_KEY] = dict(
            state_dict={k: v.cpu() for k, v in state.items()},
            record=fingerprint_of(distiller_of(runner), runner.world_size))
        averages = {name: teacher.state() for name, teacher in distiller_of(runner).teachers.averages.items()}
        if averages:
            checkpoint[CHECKPOINT_KEY]['averages'] = averages

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore projectors and averages on resume; a ``load_from`` starts with fresh ones.

        Raises:
            CheckpointError: A run without distillation is resumed, or one with another teacher or other taps. What
                else differs (weights of losses, schedule, number of processes) is a warning.
        """
        if not runner._resume:
            return
        if CHECKPOINT_KEY not in checkpoint:
            raise CheckpointError('resume: the checkpoint has no projectors, because its run had no distillation; '
                                  'use load_from to start distillation from its weights')
        record = checkpoint[CHECKPOINT_KEY].get('record')
        if record is not None:
            _compare(record, fingerprint_of(distiller_of(runner), runner.world_size))
        try:
            distiller_of(runner).load_state_dict(checkpoint[CHECKPOINT_KEY]['state_dict'])
        except RuntimeError as e:
            raise CheckpointError('resume: the projectors in the checkpoint do not fit the `distill` block '
                                  f'({" ".join(str(e).split())})') from e
        restore_order(checkpoint, student_of(runner), CHECKPOINT_KEY)
        averages = checkpoint[CHECKPOINT_KEY].get('averages', {})
        meta = checkpoint.get('meta', {})
        if distiller_of(runner).progress.schedule.over(meta.get('iter', 0), meta.get('epoch', 0)):
            return  # an average that has done its work is not saved
        for name, teacher in distiller_of(runner).teachers.averages.items():
            if name not in averages:
                raise CheckpointError(f'resume: the checkpoint has no average of the student for {teacher.key}; its '
                                      'run had no such teacher; use load_from to start from its weights')
            teacher.load_state(averages[name])
