"""``distill.preemption``: what happens when a scheduler takes the machine."""
from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, Sequence

from ..errors import ConfigError, ConfigTypeError
from .checks import ROOT, check_keys, mapping, whole_number

INTERVAL = 10


def default_signals() -> tuple[str, ...]:
    """Signals that schedulers send, those that this system has: Windows has no SIGUSR1."""
    return tuple(name for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))


@dataclass(frozen=True)
class PreemptionConfig:
    """What :class:`mmsrd.PreemptionHook` is given.

    Attributes:
        interval: Iterations between two checks whether any process has received a signal.
        signals: Names of the signals.
    """

    interval: int = INTERVAL
    signals: Sequence[str] = field(default_factory=default_signals)


def parse_preemption(block: Any, key: str = f'{ROOT}.preemption') -> PreemptionConfig | None:
    """Check the part of the ``distill`` block; None where signals end the training as without mmsrd.

    Args:
        block: A dict; True or None for the defaults, False for none.
        key: Config key, for messages.

    Raises:
        ConfigError: And its kinds.

    Example:
        >>> from mmsrd.config.preemption_config import parse_preemption
        >>> parse_preemption(dict(interval=1)).signals
        ('SIGTERM', 'SIGUSR1')
        >>> parse_preemption(False) is None
        True
    """
    if block is None or isinstance(block, bool):
        return None if block is False else PreemptionConfig()
    options = mapping(key, block)
    check_keys(key, options, ('interval', 'signals'))
    signals = options.get('signals')
    if signals is None:
        signals = default_signals()
    if not isinstance(signals, (list, tuple)):
        raise ConfigTypeError.at(f'{key}.signals', signals, "must be a list of names such as 'SIGTERM'")
    for name in signals:
        known = isinstance(name, str) and name in signal.Signals.__members__ and hasattr(signal, name)
        if not known or name in ('SIGKILL', 'SIGSTOP'):  # which cannot be handled
            raise ConfigError.at(f'{key}.signals', name, "is not a signal that can be handled; use names such as "
                                 f"{', '.join(map(repr, default_signals()))}")
    return PreemptionConfig(whole_number(f'{key}.interval', options.get('interval', INTERVAL), 1), tuple(signals))
