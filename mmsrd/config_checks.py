"""Checks that the parts of the ``distill`` block share, with errors that name the key and quote the value."""
from __future__ import annotations

from typing import Any, Mapping

from .errors import ConfigError, ConfigTypeError, UnknownKeyError

ROOT = 'distill'


def mapping(key: str, value: Any) -> dict[str, Any]:
    """``value`` as a dict.

    Raises:
        ConfigTypeError: It is none.
    """
    if not isinstance(value, Mapping):
        raise ConfigTypeError.at(key, value, f'must be a dict, not {type(value).__name__}')
    return dict(value)


def check_keys(key: str, block: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse keys of ``block`` that are not ``known``.

    Raises:
        UnknownKeyError: There is one; the closest known ones are suggested.
    """
    for name in block:
        if name not in known and name != '_delete_':
            raise UnknownKeyError.among(key, str(name), known)


def typed(key: str, value: Any, kind: type | tuple[type, ...], accepted: str) -> Any:
    """``value``, if it is a ``kind``; True and False are no numbers.

    Raises:
        ConfigTypeError: It is of another type.
    """
    is_bool_for_number = isinstance(value, bool) and kind in (int, (int, float))
    if not isinstance(value, kind) or is_bool_for_number:
        raise ConfigTypeError.at(key, value, f'must be {accepted}, not {type(value).__name__}')
    return value


def count(key: str, value: Any) -> int:
    """``value`` as a whole number of at least 0.

    Raises:
        ConfigError: It is none.
    """
    if typed(key, value, int, 'a whole number') < 0:
        raise ConfigError.at(key, value, 'must not be negative')
    return int(value)
