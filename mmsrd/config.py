"""The ``distill`` block: what it may contain, checked before anything is built."""
from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Any, Mapping

from mmengine.config import Config
from torch import nn

from .errors import ConfigError, ConfigTypeError, UnknownKeyError
from .matching import RESIZES
from .registry import MODELS
from .rng import preserved_rng
from .schedule import Schedule
from .tokens import TOKENS

ROOT = 'distill'
PRESETS = ('detection', 'classification')
_NAME_PATTERN = 'letters, digits and underscores'


@dataclass(frozen=True)
class TeacherConfig:
    """``distill.teacher``: which model, which weights.

    Attributes:
        config: Config name (path or ``package::name``) or a whole config.
        checkpoint: Path, URL or ``'auto'``; None only with ``allow_random``.
    """

    config: str | Config
    checkpoint: str | None


@dataclass(frozen=True)
class LossConfig:
    """``distill.losses.<name>``: one comparison of a student and a teacher feature.

    Attributes:
        name: Key in ``losses``; part of the logged names.
        module: ``type`` and arguments of the loss.
        student: Dotted path of the student's tap.
        teacher: Dotted path of the teacher's tap.
        weight: Multiplier of the loss.
        levels: None for all levels, else (student, teacher) index pairs.
        resize: Which map is resized where sizes differ.
        pool: Whether features are averaged over positions first.
        projector: ``type`` and arguments, or None to compare without one.
        tokens: Which tokens of a sequence are compared.
        compares_logits: Whether the channels are classes, so that a projector makes no sense.
    """

    name: str
    module: Mapping[str, Any]
    student: str
    teacher: str
    weight: float = 1.0
    levels: list[tuple[int, int]] | None = None
    resize: str = 'to_student'
    pool: bool = False
    projector: Mapping[str, Any] | None = field(default_factory=lambda: dict(type='LinearProjector'))
    compares_logits: bool = False
    tokens: str = 'all'

    @property
    def key(self) -> str:
        """Config key of this loss, for messages."""
        return f'{ROOT}.losses.{self.name}'


@dataclass(frozen=True)
class DistillConfig:
    """The whole block. ``losses`` is None where a preset is to choose them."""

    teacher: TeacherConfig
    losses: list[LossConfig] | None
    preset: str | None
    schedule: Schedule


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigTypeError.at(key, value, f'must be a dict, not {type(value).__name__}')
    return dict(value)


def _check_keys(key: str, block: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in block:
        if name not in known and name != '_delete_':
            raise UnknownKeyError.among(key, str(name), known)


def _typed(key: str, value: Any, kind: type | tuple[type, ...], accepted: str) -> Any:
    is_bool_for_number = isinstance(value, bool) and kind in (int, (int, float))
    if not isinstance(value, kind) or is_bool_for_number:
        raise ConfigTypeError.at(key, value, f'must be {accepted}, not {type(value).__name__}')
    return value


def _count(key: str, value: Any) -> int:
    if _typed(key, value, int, 'a whole number') < 0:
        raise ConfigError.at(key, value, 'must not be negative')
    return int(value)


def parse(block: Any) -> DistillConfig:
    """Check a ``distill`` block.

    Args:
        block: The block as the config has it.

    Raises:
        ConfigError: And its kinds; the message names the key and quotes the value.
    """
    if block is None:
        raise ConfigError(f"{ROOT}: the config has no `{ROOT}` block; add {ROOT}=dict(teacher=dict(config=..., "
                          'checkpoint=...)) or use the ordinary Runner')
    options = _mapping(ROOT, block)
    _check_keys(ROOT, options, ('teacher', 'losses', 'preset', 'schedule'))
    preset = options.get('preset')
    if preset is not None and preset not in PRESETS:
        raise ConfigError.at(f'{ROOT}.preset', preset, f'must be one of {", ".join(map(repr, PRESETS))}')
    losses = options.get('losses')
    if losses is not None and preset is not None:
        raise ConfigError.at(f'{ROOT}.preset', preset, f'cannot be combined with `{ROOT}.losses`; give one of them')
    return DistillConfig(
        teacher=parse_teacher(options.get('teacher')),
        losses=None if losses is None else parse_losses(losses),
        preset=preset,
        schedule=parse_schedule(options.get('schedule') or {}))


def parse_teacher(block: Any) -> TeacherConfig:
    """Check ``distill.teacher``."""
    key = f'{ROOT}.teacher'
    if block is None:
        raise ConfigError(f'{key}: is required: dict(config=..., checkpoint=PATH|URL|\'auto\')')
    options = _mapping(key, block)
    _check_keys(key, options, ('config', 'checkpoint', 'allow_random'))
    config = options.get('config')
    if config is None:
        raise ConfigError(f'{key}.config: is required: a config file, "mmdet::..." or a whole config')
    if isinstance(config, Mapping) and not isinstance(config, Config):
        config = Config(dict(config))
    _typed(f'{key}.config', config, (str, Config), 'a config name or a whole config')
    if isinstance(config, Config) and 'model' not in config:
        raise ConfigError(f'{key}.config: defines no model; it has {", ".join(sorted(config.keys())) or "nothing"}')
    checkpoint = options.get('checkpoint')
    allow_random = _typed(f'{key}.allow_random', options.get('allow_random', False), bool, 'True or False')
    if checkpoint is None and not allow_random:
        raise ConfigError.at(f'{key}.checkpoint', checkpoint, 'a teacher without weights teaches noise; give a path, a '
                             "URL or 'auto', or write allow_random=True to accept random weights")
    if checkpoint is not None:
        _typed(f'{key}.checkpoint', checkpoint, str, 'a path, a URL or \'auto\'')
    return TeacherConfig(config, checkpoint)


def parse_losses(block: Any) -> list[LossConfig]:
    """Check ``distill.losses``."""
    key = f'{ROOT}.losses'
    losses = _mapping(key, block)
    if not losses:
        raise ConfigError(f'{key}: is empty; name at least one loss, or leave it out for a preset')
    with preserved_rng():  # arguments are checked by building modules, which draws initial weights
        return [parse_loss(str(name), options) for name, options in losses.items()]


def parse_loss(name: str, block: Any) -> LossConfig:
    """Check ``distill.losses.<name>``, the arguments of its module included."""
    key = f'{ROOT}.losses.{name}'
    if not name.isidentifier():
        raise ConfigError.at(f'{ROOT}.losses', name, f'a loss name may have {_NAME_PATTERN}')
    if hasattr(nn.ModuleDict(), name):
        raise ConfigError.at(f'{ROOT}.losses', name, 'is a name that PyTorch modules use themselves; choose another')
    if 'loss' in name:
        raise ConfigError.at(f'{ROOT}.losses', name, "must not contain 'loss': MMEngine adds every logged value with "
                             'that word in its name to the training loss')
    options = _mapping(key, block)
    own = ('student', 'teacher', 'weight', 'levels', 'resize', 'pool', 'tokens', 'projector')
    module = {k: v for k, v in options.items() if k not in own}
    module.setdefault('type', 'SRDLoss')
    criterion = build_module(key, module, also_known=own)  # only to check its arguments
    compares_logits = bool(getattr(criterion, 'compares_logits', False))
    taps = {}
    for side in ('student', 'teacher'):
        if options.get(side) is None:
            raise ConfigError(f'{key}.{side}: is required: the dotted path of a module of the {side}, such as \'neck\'')
        taps[side] = _typed(f'{key}.{side}', options[side], str, 'the dotted path of a module')
    weight = float(_typed(f'{key}.weight', options.get('weight', 1.0), (int, float), 'a number'))
    if not (weight >= 0 and math.isfinite(weight)):
        raise ConfigError.at(f'{key}.weight', options['weight'], 'must be finite and not negative')
    choices = {}
    for choice, default, accepted in (('resize', 'to_student', RESIZES), ('tokens', 'all', TOKENS)):
        choices[choice] = options.get(choice, default)
        if choices[choice] not in accepted:
            raise ConfigError.at(f'{key}.{choice}', choices[choice], f'must be one of {", ".join(map(repr, accepted))}')
    projector = options.get('projector', None if compares_logits else dict(type='LinearProjector'))
    if projector is not None:
        projector = _mapping(f'{key}.projector', projector)
        build_module(f'{key}.projector', projector, in_channels=1, out_channels=1)
    return LossConfig(
        name, module, taps['student'], taps['teacher'], weight, parse_levels(key, options.get('levels')),
        choices['resize'], _typed(f'{key}.pool', options.get('pool', False), bool, 'True or False'), projector,
        compares_logits, choices['tokens'])


def parse_levels(key: str, value: Any) -> list[tuple[int, int]] | None:
    """Check ``levels``: None, or a non-empty list of indices or pairs of indices; indices become pairs."""
    if value is None:
        return None
    accepted = 'a list of level indices [0, 1] or of (student, teacher) pairs [(0, 1)]'
    levels: list[tuple[int, int]] = []
    for item in _typed(f'{key}.levels', value, (list, tuple), accepted):
        pair = tuple(item) if isinstance(item, (list, tuple)) else (item, item)
        if len(pair) != 2 or not all(isinstance(i, int) and not isinstance(i, bool) for i in pair):
            raise ConfigTypeError.at(f'{key}.levels', value, f'must be {accepted}')
        levels.append((pair[0], pair[1]))
    if not levels:
        raise ConfigError.at(f'{key}.levels', value, f'must be {accepted}, with at least one')
    return levels


def parse_schedule(block: Any) -> Schedule:
    """Check ``distill.schedule``."""
    key = f'{ROOT}.schedule'
    options = _mapping(key, block)
    _check_keys(key, options, ('start', 'end', 'warmup', 'by_epoch'))
    start = _count(f'{key}.start', options.get('start', 0))
    end = None if options.get('end') is None else _count(f'{key}.end', options['end'])
    if end is not None and end <= start:
        raise ConfigError.at(f'{key}.end', end, f'must be greater than start = {start}')
    return Schedule(start, end, _count(f'{key}.warmup', options.get('warmup', 0)),
                    _typed(f'{key}.by_epoch', options.get('by_epoch', False), bool, 'True or False'))


def build_module(key: str, options: Mapping[str, Any], also_known: tuple[str, ...] = (), **given: Any) -> nn.Module:
    """Build a registered loss or projector, with errors that name the config key.

    The type is looked up in scope ``mmsrd`` whatever the default scope is.

    Args:
        key: Config key of the block.
        options: ``type`` and arguments.
        also_known: Keys of the block that belong to something else, for suggestions.
        given: Arguments that the config does not give.
    """
    arguments = {k: v for k, v in options.items() if k not in ('type', '_delete_')}
    if 'type' not in options:
        raise ConfigError(f'{key}.type: is required')
    kind = options['type']
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(cls) or not issubclass(cls, nn.Module):
        raise ConfigError.at(f'{key}.type', kind, 'is not a registered module; mmsrd has '
                             + ', '.join(sorted(MODELS.module_dict)))
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        _check_keys(key, arguments, (*(p for p in parameters if p not in given), *also_known))
    try:
        module: nn.Module = cls(**arguments, **given)
    except ConfigError as e:
        raise type(e)(f'{key}.{e}') from e
    except TypeError as e:
        raise ConfigTypeError(f'{key}: {cls.__name__} does not accept {arguments} ({e})') from e
    return module
