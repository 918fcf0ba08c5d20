"""``distill.report`` and ``distill.preemption``: parts of the block that set up a hook, or switch it off."""
from __future__ import annotations

import signal
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Optional, Sequence, Type, TypeVar

from ..errors import ConfigError, ConfigTypeError
from .checks import mapping, read, setting, text, whole_number

T = TypeVar('T')


@dataclass(frozen=True)
class ReportConfig:
    """``distill.report``: the page that is written while training, by :class:`mmsrd.DistillReportHook`.

    Attributes:
        images: Validation images that are shown; 0 for none.
        baseline: Work directory of the student alone; None for none.
        metric: Name of the metric that the report is about; None for the main one.
    """

    images: int = 8
    baseline: Optional[str] = setting(text('the work directory of the student alone'), None)
    metric: Optional[str] = setting(text('the name of a metric'), None)


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


def read_optional(kind: Type[T], key: str, block: Any) -> T | None:
    """Read a part of the block that can be switched off.

    Args:
        kind: The dataclass of the part.
        key: Config key of the part.
        block: A dict; True or None for the defaults, False for none.

    Raises:
        ConfigError: And its kinds.

    Example:
        >>> from mmsrd.config.hook_config import ReportConfig, read_optional
        >>> read_optional(ReportConfig, 'distill.report', dict(baseline='work_dirs/alone')).images
        8
        >>> read_optional(ReportConfig, 'distill.report', False) is None
        True
    """
    if block is None or isinstance(block, bool):
        return None if block is False else kind()
    return read(kind, key, mapping(key, block))
