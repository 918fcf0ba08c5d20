"""Exceptions that mmsrd raises for mistakes that users can fix.

All take one message, because MMEngine's registries may re-raise an exception as
``type(e)(message)``. The class methods compose messages of one form: which key,
which value, what is wrong, what would be accepted.
"""
from __future__ import annotations

import difflib
from typing import Any, Iterable, TypeVar

ErrorT = TypeVar('ErrorT', bound='MMSRDError')


class MMSRDError(Exception):
    """Base of all errors of mmsrd."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0]) if self.args else ''

    @classmethod
    def at(cls: type[ErrorT], key: str, value: Any, problem: str) -> ErrorT:
        """An error about ``value`` of config key ``key``.

        Args:
            key: Config key.
            value: What the config has.
            problem: What is wrong with it, and what is accepted.
        """
        return cls(f'{key} = {quoted(value)}: {problem}')


class ConfigError(MMSRDError, ValueError):
    """A value in the ``distill`` block is not acceptable."""


class ConfigTypeError(ConfigError, TypeError):
    """A value in the ``distill`` block has the wrong type."""


class UnknownKeyError(ConfigError, KeyError):
    """A key in the ``distill`` block does not exist."""

    @classmethod
    def among(cls, key: str, name: str, known: Iterable[str]) -> UnknownKeyError:
        """``name`` is not one of ``known`` below config key ``key``.

        Args:
            key: Config key of the block.
            name: The unknown key.
            known: Keys that are accepted.
        """
        known = sorted(known)
        return cls(f'{key}: unknown key {name!r}{did_you_mean(name, known)}. Known keys: {", ".join(known)}')


class TapError(ConfigError, KeyError):
    """A tap names a module that does not exist, or whose output cannot be used."""


class FeatureMismatchError(ConfigError):
    """Features of student and teacher cannot be compared as configured."""


class TeacherError(ConfigError):
    """The teacher cannot be built or has no weights."""


class CheckpointError(MMSRDError, ValueError):
    """A checkpoint cannot be found, read or used."""


class StorageError(MMSRDError, OSError):
    """The disk or the store that a training writes to fails."""


class NonFiniteError(MMSRDError, FloatingPointError):
    """A distillation loss is NaN or infinite."""


class MissingPackageError(MMSRDError, ImportError):
    """A toolbox that a config needs is not installed."""


class UnsupportedVersionError(MMSRDError, ImportError):
    """A package that mmsrd cannot do without is missing or too old."""


class MissingOpError(MMSRDError, NotImplementedError):
    """An operator of mmcv that exists only compiled was called."""

    @classmethod
    def named(cls, name: str, variant: str = '') -> MissingOpError:
        """Operator ``name`` of ``mmcv._ext`` (with a ``variant`` of its arguments) is not available."""
        what = f'{name} ({variant})' if variant else name
        return cls(
            f'mmcv operator {what!r} is not compiled here: mmcv-lite has no compiled operators and the torchvision '
            'stand-in of mmsrd does not offer this one. Install a compiled mmcv in its place, for example '
            '"pip uninstall mmcv-lite && pip install -U openmim && mim install \'mmcv>=2.0.0,<2.2.0\'"')


def quoted(value: Any, length: int = 400) -> str:
    """``repr`` of a value, without the middle of a long one."""
    text = repr(value)
    return text if len(text) <= length else f'{text[:length // 2]}...{text[-length // 2:]}'


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """`` (did you mean ...?)`` with the closest of ``known``, or an empty string.

    Args:
        name: Text that was given.
        known: Texts that are accepted.
        count: Suggestions at most.
    """
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    return f' (did you mean {" or ".join(repr(c) for c in close)}?)' if close else ''
