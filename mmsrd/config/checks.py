"""Checks of values in a config, with errors that name the key and quote the value; :func:`read` fills a dataclass."""
from __future__ import annotations

import math
import operator
import sys
from dataclasses import MISSING, field, fields
from typing import Any, Callable, Mapping, Sequence, Type, TypeVar, get_args, get_type_hints

from ..errors import ConfigError, ConfigTypeError, UnknownKeyError

ROOT = 'distill'
T = TypeVar('T')
Check = Callable[[str, Any], Any]
"""Takes a config key and its value, and returns the value as it is used; raises a :class:`ConfigError`."""


def setting(check: Check, default: Any = MISSING) -> Any:
    """Return a field of a config dataclass whose values are checked by more than their type.

    Args:
        check: Called with the config key and the value; with None where a value without a default is missing.
        default: Value where the block has none; the field is required by default.

    Example:
        >>> from dataclasses import dataclass
        >>> from functools import partial
        >>> from mmsrd.config.checks import one_of, read, setting
        >>> @dataclass(frozen=True)
        ... class Paint:
        ...     colour: str = setting(partial(one_of, accepted=('red', 'blue')), 'red')
        ...     shiny: bool = False
        >>> read(Paint, 'paint', dict(shiny=True))
        Paint(colour='red', shiny=True)
        >>> read(Paint, 'paint', dict(colour='green'))
        Traceback (most recent call last):
        ...
        mmsrd.errors.ConfigError: paint.colour = 'green': must be one of 'red', 'blue'
    """
    return field(default=default, metadata=dict(check=check))


def read(kind: Type[T], key: str, block: Any, also_known: Sequence[str] = (), /, **given: Any) -> T:
    """Fill a dataclass from a block of the config, after checking each entry.

    An entry is checked by its field's :func:`setting`, or else by its type: ``bool``, ``int`` (not negative), ``str``.
    None is accepted where the type is ``Optional``.

    Args:
        kind: The dataclass; its fields are the known keys.
        key: Config key of the block, for messages.
        block: What the config has; None for an empty block.
        also_known: Keys that the caller reads itself.
        given: Values of fields that are no keys of the block.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
    """
    options = mapping(key, block, optional=True)
    known = [f for f in fields(kind) if f.name not in given]  # type: ignore[arg-type]
    check_keys(key, options, [*(f.name for f in known), *also_known])
    hints = get_type_hints(kind)
    for f in known:
        if f.name not in options and (f.default is not MISSING or f.default_factory is not MISSING):
            continue
        value, accepted = options.get(f.name), get_args(hints[f.name]) or (hints[f.name],)
        if value is not None or type(None) not in accepted:
            value = f.metadata.get('check', _BY_TYPE.get(accepted[0]))(f'{key}.{f.name}', value)
        given[f.name] = value
    return kind(**given)


def read_optional(kind: Type[T], key: str, block: Any) -> T | None:
    """Read a part of the block that can be switched off.

    Args:
        kind: The dataclass of the part.
        key: Config key of the part.
        block: A dict; True or None for the defaults, False for none.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.

    Example:
        >>> from mmsrd.config.checks import read_optional
        >>> from mmsrd.config.distill_config import ReportConfig
        >>> read_optional(ReportConfig, 'distill.report', dict(baseline='work_dirs/alone')).images
        8
        >>> read_optional(ReportConfig, 'distill.report', False) is None
        True
    """
    if block is None or isinstance(block, bool):
        return None if block is False else kind()
    return read(kind, key, mapping(key, block, accepted='True, False or a dict'))


def mapping(key: str, value: Any, optional: bool = False, accepted: str = 'a dict') -> dict[str, Any]:
    """``value`` as a dict, without the ``_delete_`` that MMEngine leaves where there was nothing to delete.

    Args:
        key: Config key, for messages.
        value: What the config has.
        optional: Whether None stands for an empty dict.
        accepted: Description of what is accepted, for messages.

    Raises:
        ConfigTypeError: It is not a mapping, or a key is not a string.
    """
    if value is None and optional:
        return {}
    for name in of_type(key, value, Mapping, accepted):
        if not isinstance(name, str):
            raise ConfigTypeError.at(key, value, f'has the key {name!r}; keys must be strings')
    return {name: entry for name, entry in value.items() if name != '_delete_'}


def check_keys(key: str, block: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse keys of ``block`` that are not ``known``.

    Args:
        key: Config key of the block.
        block: What the config has.
        known: Accepted keys.

    Raises:
        UnknownKeyError: There is one; the closest known ones are suggested.
    """
    for name in block:
        if name not in known:
            raise UnknownKeyError.among(key, str(name), known)


def of_type(key: str, value: Any, kind: type | tuple[type, ...], accepted: str) -> Any:
    """``value``, if it is a ``kind``; True and False are no numbers.

    Args:
        key: Config key, for messages.
        value: What the config has.
        kind: Accepted type or types.
        accepted: Description of them, for messages.

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

    Args:
        key: Config key, for messages.
        value: What the config has.
        accepted: Accepted values: texts and None.

    Raises:
        ConfigError: It is not.
    """
    if not is_among(value, accepted):
        raise ConfigError.at(key, value, f'must be one of {", ".join(map(repr, accepted))}')
    return value


def is_among(value: Any, accepted: Sequence[Any]) -> bool:
    """Return whether ``value`` is among ``accepted`` strings and None; arrays, which ``in`` cannot compare, are not."""
    return isinstance(value, (str, type(None))) and value in accepted


def whole_number(key: str, value: Any, at_least: int = 0) -> int:
    """``value``, if it is a whole number of at least ``at_least``.

    Args:
        key: Config key, for messages.
        value: What the config has.
        at_least: Smallest accepted value.

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
        above: The value must be greater than this; None for no limit.
        below: The value must be less than this; None for no limit.
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


def text(accepted: str) -> Check:
    """Return a check for texts.

    Args:
        accepted: What the text is, for messages.
    """
    return lambda key, value: of_type(key, value, str, accepted)


_BY_TYPE: Mapping[Any, Check] = {bool: boolean, int: whole_number, str: text('a string')}
