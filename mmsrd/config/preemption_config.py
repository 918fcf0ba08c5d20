"""``distill.preemption``: which signals end a training with a checkpoint."""
from __future__ import annotations

import signal
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Sequence

from ..errors import ConfigError, ConfigTypeError
from .checks import setting, whole_number


def default_signals() -> tuple[str, ...]:
    """Return the signals that schedulers send, those that this system has: Windows has no SIGUSR1."""
    return tuple(name for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))


def _signals(key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return default_signals()
    if not isinstance(value, (list, tuple)):
        raise ConfigTypeError.at(key, value, "must be a list of names such as 'SIGTERM'")
    for name in value:
        known = isinstance(name, str) and name in signal.Signals.__members__ and hasattr(signal, name)
        if not known or name in ('SIGKILL', 'SIGSTOP'):  # which cannot be handled
            raise ConfigError.at(key, name, 'is not a signal that can be handled; use names such as '
                                 f'{", ".join(map(repr, default_signals()))}')
    return tuple(value)


@dataclass(frozen=True)
class PreemptionConfig:
    """``distill.preemption``: what happens when a scheduler takes the machine, by :class:`mmsrd.PreemptionHook`.

    Attributes:
        interval: Iterations between two checks whether any process has received a signal.
        signals: Names of the signals; those of :func:`default_signals` by default.
    """

    interval: int = setting(partial(whole_number, at_least=1), 10)
    signals: Sequence[str] = field(default_factory=default_signals, metadata=dict(check=_signals))
