"""Checks of values in a config, with errors that name the key and quote the value."""
from __future__ import annotations

import math
import operator
import sys
from typing import Any, Mapping, Sequence

from ..errors import ConfigError, ConfigTypeError, UnknownKeyError

ROOT = 'distill'


def mapping(key: str, value: Any, optional: bool = False) -> dict[str, Any]:
    """``value`` as a dict, without the ``_delete_`` that MMEngine leaves where there was nothing to delete.

    Args:
        key: Config key, for messages.
        value: What the config has.
        optional: Whether None stands for an empty dict.

    Raises:
        ConfigTypeError: It is none, or has other keys than strings.
    """
    if value is None and optional:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigTypeError.at(key, value, f'must be a dict, not {type(value).__name__}')
    for name in value:
        if not isinstance(name, str):
            raise ConfigTypeError.at(key, value, f'has the key {name!r}; keys must be strings')
    return {name: entry for name, entry in value.items() if name != '_delete_'}


def check_keys(key: str, block: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse keys of ``block`` that are not ``known``.

    Raises:
        UnknownKeyError: There is one; the closest known ones are suggested.
    """
    for name in block:
        if name not in known:
            raise UnknownKeyError.among(key, str(name), known)


def of_type(key: str, value: Any, kind: type | tuple[type, ...], accepted: str) -> Any:
    """``value``, if it is a ``kind``; True and False are no numbers.

    Raises:
        ConfigTypeError: It is of another type.
    """
    is_bool_for_number = isinstance(value, bool) and kind in (int, (int, float))
    if not isinstance(value, kind) or is_bool_for_number:
        raise ConfigTypeError.at(key, value, f'must be {accepted}, not {type(value).__name__}')
    return value


def boolean(key: str, value: Any) -> bool:
    """``value``, if it is True or False.

    Raises:
        ConfigTypeError: It is something else.
    """
    return bool(of_type(key, value, bool, 'True or False'))


def one_of(key: str, value: Any, accepted: Sequence[Any]) -> Any:
    """``value``, if it is among ``accepted``.

    Raises:
        ConfigError: It is not.
    """
    if not is_among(value, accepted):
        raise ConfigError.at(key, value, f'must be one of {", ".join(map(repr, accepted))}')
    return value


def is_among(value: Any, accepted: Sequence[Any]) -> bool:
    """Whether ``value`` is one of some texts and None, also where it cannot be compared, as an array."""
    return isinstance(value, (str, type(None))) and value in accepted


def whole_number(key: str, value: Any, at_least: int = 0) -> int:
    """``value``, if it is a whole number of at least ``at_least``.

    Raises:
        ConfigTypeError: It is no whole number.
        ConfigError: It is smaller.
    """
    if of_type(key, value, int, 'a whole number') < at_least:
        raise ConfigError.at(key, value, f'must be a whole number of at least {at_least}' if at_least else
                             'must not be negative')
    return int(value)


def number(key: str, value: Any, at_least: float | None = None, above: float | None = None,
           below: float | None = None, meaning: str = '') -> float:
    """``value`` as a float, if it is a finite number within the limits.

    Args:
        key: Config key, for messages.
        value: What the config has.
        at_least: Smallest value that is accepted; None for any.
        above: Largest value that is too small; None for none.
        below: Smallest value that is too large; None for none.
        meaning: What the number is or why it is limited, for messages.

    Raises:
        ConfigTypeError: It is no number.
        ConfigError: It is outside of the limits or not finite.
    """
    of_type(key, value, (int, float), 'a number')
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ConfigError.at(key, value, 'is too large for a floating-point number')
    limits = [(text, limit, holds) for text, limit, holds in (
        ('of at least', at_least, operator.ge), ('above', above, operator.gt), ('below', below, operator.lt))
        if limit is not None]
    if not math.isfinite(value) or not all(holds(value, limit) for _, limit, holds in limits):
        accepted = ' '.join(['a finite number' if math.isinf(value) else 'a number',
                             ' and '.join(f'{text} {limit:g}' for text, limit, _ in limits)])
        raise ConfigError.at(key, value, f'must be {accepted}'.rstrip() + (f' ({meaning})' if meaning else ''))
    return float(value)
