"""Build losses and projectors from config blocks, with errors that name the config key."""
from __future__ import annotations

import inspect
from typing import Any, Mapping, Sequence

from torch import nn

from ..config.checks import check_keys
from ..errors import ConfigError, ConfigTypeError, did_you_mean
from ..registry import MODELS
from .losses import BaseDistillLoss
from .projectors import BaseProjector

_CHANNELS = ('in_channels', 'out_channels')


def build_loss(key: str, options: Mapping[str, Any], also_known: Sequence[str] = ()) -> nn.Module:
    """Build a distillation loss.

    Args:
        key: Config key of the block.
        options: ``type`` and arguments. The type is looked up in scope ``mmsrd`` whatever the default scope is.
        also_known: Keys of the block that belong to something else, for suggestions.

    Raises:
        ConfigError: It is no loss, or an argument is not accepted.
    """
    cls = _class_of(key, options, BaseDistillLoss)
    if not issubclass(cls, BaseDistillLoss) and not _takes(cls.forward, 'student', 'teacher'):
        raise _no_such(key, options['type'], BaseDistillLoss)
    return _build(key, cls, options, also_known)


def check_projector(key: str, options: Mapping[str, Any]) -> None:
    """Check a projector's block as far as possible without the channels that it will map.

    Raises:
        ConfigError: It is no projector, or an argument is not accepted.
    """
    _check_arguments(key, _projector_class(key, options), options, (), _CHANNELS)


def build_projector(key: str, options: Mapping[str, Any], in_channels: int, out_channels: int) -> nn.Module:
    """Build a projector from ``in_channels`` of the student to ``out_channels`` of the teacher.

    Args:
        key: Config key of the block.
        options: ``type`` and arguments.
        in_channels: Channels of the student.
        out_channels: Channels of the teacher.

    Raises:
        ConfigError: It is no projector, or an argument is not accepted.
    """
    return _build(key, _projector_class(key, options), options, (), in_channels=in_channels, out_channels=out_channels)


def _projector_class(key: str, options: Mapping[str, Any]) -> type[nn.Module]:
    cls = _class_of(key, options, BaseProjector)
    takes_channels = _takes_any(cls) or set(_CHANNELS) <= set(inspect.signature(cls).parameters)
    if not issubclass(cls, BaseProjector) and not takes_channels:
        raise _no_such(key, options['type'], BaseProjector)
    return cls


def _class_of(key: str, options: Mapping[str, Any], base: type[nn.Module]) -> type[nn.Module]:
    if 'type' not in options:
        example = 'LinearProjector' if base is BaseProjector else 'SRDLoss'
        raise ConfigError(f'{key}.type: is required: the name of a registered class, such as {example!r}')
    kind = options['type']
    is_name = isinstance(kind, str) and all(part.isidentifier() for part in kind.split('.'))
    cls = MODELS.get(kind) if is_name else kind
    if not inspect.isclass(cls) or not issubclass(cls, nn.Module):
        raise _no_such(key, kind, base)
    return cls


def _no_such(key: str, kind: Any, base: type[nn.Module]) -> ConfigError:
    known = sorted(name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, base))
    what = 'loss' if base is BaseDistillLoss else 'projector'
    return ConfigError.at(f'{key}.type', kind, f'is not a registered {what}{did_you_mean(str(kind), known)}; mmsrd has '
                          f'{", ".join(known)}')


def _takes(function: Any, *arguments: str) -> bool:
    """Return whether a method can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(None, *arguments)
    except TypeError:
        return False
    return True


def _takes_any(cls: type[nn.Module]) -> bool:
    """Return whether a class is built with whatever keyword arguments it is given."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())


def _check_arguments(key: str, cls: type[nn.Module], options: Mapping[str, Any], also_known: Sequence[str],
                     given: Sequence[str]) -> dict[str, Any]:
    """Arguments of ``cls`` in a block, if it knows them all."""
    arguments = {k: v for k, v in options.items() if k != 'type'}
    if not _takes_any(cls):
        parameters = inspect.signature(cls).parameters
        check_keys(key, arguments, (*(p for p in parameters if p not in given), *also_known))
    return arguments


def _build(key: str, cls: type[nn.Module], options: Mapping[str, Any], also_known: Sequence[str],
           **given: Any) -> nn.Module:
    arguments = _check_arguments(key, cls, options, also_known, tuple(given))
    try:
        return cls(**arguments, **given)
    except ConfigError as e:
        raise type(e)(f'{key}.{e}') from e
    except TypeError as e:
        raise ConfigTypeError(f'{key}: {cls.__name__} does not accept {arguments} ({e})') from e
