"""``distill.schedule``: when distillation acts and how strongly."""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

from ..errors import ConfigError
from .checks import one_of, read, setting, whole_number

DECAYS = (None, 'cosine', 'linear')


@dataclass(frozen=True)
class Schedule:
    """Window, warm-up and decay of all distillation weights.

    Attributes:
        start: First iteration (or epoch) with distillation.
        end: First iteration (or epoch) after distillation; None for no end. The
            teacher does not run from then on.
        warmup: Iterations over which the weights grow linearly from the start.
        by_epoch: Whether ``start`` and ``end`` count epochs instead of iterations.
        decay: How the weights fall to zero until ``end``, or the end of training: ``'cosine'``, ``'linear'``, or None
            where they do not.
        interval: Distillation acts in one of this many optimisation steps; the others are plain steps of the student.

    Example:
        >>> from mmsrd.config import Schedule
        >>> schedule = Schedule(end=100, decay='cosine')
        >>> [round(schedule.factor(i, 0), 2) for i in (0, 25, 50, 99)]
        [1.0, 0.85, 0.5, 0.0]
    """

    start: int = 0
    end: Optional[int] = None
    warmup: int = 0
    by_epoch: bool = False
    decay: Optional[str] = setting(partial(one_of, accepted=DECAYS), None)
    interval: int = setting(partial(whole_number, at_least=1), 1)

    def active(self, iteration: int, epoch: int) -> bool:
        """Return whether this iteration is in the window of distillation (both count from 0)."""
        now = epoch if self.by_epoch else iteration
        return now >= self.start and (self.end is None or now < self.end)

    def over(self, iteration: int, epoch: int) -> bool:
        """Return whether distillation has ended for good."""
        return self.end is not None and (epoch if self.by_epoch else iteration) >= self.end

    def factor(self, iteration: int, epoch: int, iterations_per_epoch: int | None = None,
               iterations: int | None = None) -> float:
        """Multiplier of the weights, from 0 to 1.

        Args:
            iteration: Iterations done so far.
            epoch: Epochs done so far.
            iterations_per_epoch: Needed where ``by_epoch`` meets ``warmup`` or ``decay``.
            iterations: Iterations of the whole training; needed for a decay without ``end``.
        """
        if not self.active(iteration, epoch):
            return 0.0
        unit = iterations_per_epoch or 0 if self.by_epoch else 1
        done = iteration - self.start * unit
        growth = min(1.0, (done + 1) / self.warmup) if self.warmup else 1.0
        if self.decay is None:
            return growth
        last = iterations if self.end is None else self.end * unit
        assert last is not None, 'attach refuses a decay without end'
        progress = min(done / (last - self.start * unit), 1.0)
        return growth * (0.5 + 0.5 * math.cos(math.pi * progress) if self.decay == 'cosine' else 1 - progress)


@dataclass
class Progress:
    """The clock of a distiller: where training is, and what the schedule says of it.

    A runner sets it before each iteration (:class:`mmsrd.DistillHook`); in a loop without one, each loss pass with
    gradients counts.

    Attributes:
        schedule: When distillation acts.
        iteration: Iterations that are done.
        epoch: Epochs that are done.
        epoch_length: Iterations of an epoch; None where they are not known.
        length: Iterations of the whole training; None where they are not known.
        accumulation: Iterations whose gradients make one optimisation step.

    Example:
        >>> from mmsrd.config import Progress, Schedule
        >>> progress = Progress(Schedule(end=2, decay='linear'))
        >>> progress.factor
        1.0
        >>> progress.iteration += 1
        >>> progress.factor, progress.active, progress.over
        (0.5, True, False)
    """

    schedule: Schedule
    iteration: int = 0
    epoch: int = 0
    epoch_length: int | None = None
    length: int | None = None
    accumulation: int = 1

    @property
    def active(self) -> bool:
        """Return whether distillation acts in the next step."""
        return self.schedule.active(self.iteration, self.epoch) and self._is_on_turn

    @property
    def pauses(self) -> bool:
        """Return whether the next step is one between two distilled ones."""
        return self.schedule.active(self.iteration, self.epoch) and not self._is_on_turn

    @property
    def _is_on_turn(self) -> bool:
        first = self.schedule.start * ((self.epoch_length or 0) if self.schedule.by_epoch else 1)
        return (self.iteration // self.accumulation - first // self.accumulation) % self.schedule.interval == 0

    @property
    def over(self) -> bool:
        """Return whether distillation has ended for good."""
        return self.schedule.over(self.iteration, self.epoch)

    @property
    def factor(self) -> float:
        """Multiplier of the weights in the next step, from 0 to 1."""
        return self.schedule.factor(self.iteration, self.epoch, self.epoch_length, self.length)


def parse_schedule(key: str, block: Any) -> Schedule:
    """Check ``distill.schedule``.

    Args:
        key: Its config key.
        block: What the config has.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
    """
    schedule = read(Schedule, key, block)
    if schedule.end is not None and schedule.end <= schedule.start:
        raise ConfigError.at(f'{key}.end', schedule.end, f'must be greater than start = {schedule.start}')
    return schedule
