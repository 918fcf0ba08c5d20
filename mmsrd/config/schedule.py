"""``distill.schedule``: when distillation acts and how strongly."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .checks import ROOT, boolean, check_keys, mapping, whole_number


@dataclass(frozen=True)
class Schedule:
    """Window and warm-up of all distillation weights.

    Attributes:
        start: First iteration (or epoch) with distillation.
        end: First iteration (or epoch) without it again; None for never. The
            teacher does not run from then on.
        warmup: Iterations over which the weights grow linearly from the start.
        by_epoch: Whether ``start`` and ``end`` count epochs instead of iterations.
    """

    start: int = 0
    end: int | None = None
    warmup: int = 0
    by_epoch: bool = False

    def active(self, iteration: int, epoch: int) -> bool:
        """Whether distillation acts in this iteration (both count from 0)."""
        now = epoch if self.by_epoch else iteration
        return now >= self.start and (self.end is None or now < self.end)

    def over(self, iteration: int, epoch: int) -> bool:
        """Whether distillation has ended for good."""
        return self.end is not None and (epoch if self.by_epoch else iteration) >= self.end

    def factor(self, iteration: int, epoch: int, iterations_per_epoch: int | None = None) -> float:
        """Multiplier of the weights, from 0 to 1.

        Args:
            iteration: Iterations done so far.
            epoch: Epochs done so far.
            iterations_per_epoch: Needed where ``by_epoch`` meets ``warmup``.
        """
        if not self.active(iteration, epoch):
            return 0.0
        if not self.warmup:
            return 1.0
        first = self.start * (iterations_per_epoch or 0) if self.by_epoch else self.start
        return min(1.0, (iteration - first + 1) / self.warmup)


def parse_schedule(block: Any) -> Schedule:
    """Check ``distill.schedule``.

    Raises:
        ConfigError: And its kinds.
    """
    key = f'{ROOT}.schedule'
    options = mapping(key, block)
    check_keys(key, options, ('start', 'end', 'warmup', 'by_epoch'))
    start = whole_number(f'{key}.start', options.get('start', 0))
    end = None if options.get('end') is None else whole_number(f'{key}.end', options['end'])
    if end is not None and end <= start:
        raise ConfigError.at(f'{key}.end', end, f'must be greater than start = {start}')
    return Schedule(start, end, whole_number(f'{key}.warmup', options.get('warmup', 0)),
                    boolean(f'{key}.by_epoch', options.get('by_epoch', False)))
