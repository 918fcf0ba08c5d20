"""The ``distill`` block: what it may contain, checked before anything is built."""
from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Mapping

from mmengine.config import Config

from .config_checks import ROOT, check_keys, count, mapping, typed
from .config_losses import LossConfig, parse_losses
from .errors import ConfigError
from .inference import PRECISIONS, Inference
from .schedule import Schedule

PRESETS = ('detection', 'classification')
DEFAULT_MOMENTUM = 0.0002  # MMEngine's, of its EMA


@dataclass(frozen=True)
class TeacherConfig:
    """``distill.teacher``, or one of ``distill.teachers``: which model, which weights.

    Attributes:
        key: Where it stands in the config.
        config: Config name (path or ``package::name``) or a whole config; None for an average of the student.
        checkpoint: Path, URL or ``'auto'``; None only with ``allow_random`` and for an average.
        momentum: Share of the student in each update of the average; None for a model of its own.
        offload: Whether its weights stay in host memory.
        inference: How it is made fast.
    """

    key: str
    config: str | Config | None
    checkpoint: str | None
    momentum: float | None = None
    offload: bool = False
    inference: Inference = field(default_factory=Inference)


@dataclass(frozen=True)
class DistillConfig:
    """The whole block.

    Attributes:
        teachers: By name; a single ``distill.teacher`` has the empty name.
        losses: None where a preset is to choose them.
        preset: The preset, or None for the one that fits.
        schedule: When distillation acts.
    """

    teachers: dict[str, TeacherConfig]
    losses: list[LossConfig] | None
    preset: str | None
    schedule: Schedule


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
    options = mapping(ROOT, block)
    check_keys(ROOT, options, ('teacher', 'teachers', 'losses', 'preset', 'schedule'))
    preset = options.get('preset')
    if preset is not None and preset not in PRESETS:
        raise ConfigError.at(f'{ROOT}.preset', preset, f'must be one of {", ".join(map(repr, PRESETS))}')
    losses = options.get('losses')
    if losses is not None and preset is not None:
        raise ConfigError.at(f'{ROOT}.preset', preset, f'cannot be combined with `{ROOT}.losses`; give one of them')
    teachers = parse_teachers(options)
    return DistillConfig(teachers, None if losses is None else parse_losses(losses, list(teachers)), preset,
                         parse_schedule(options.get('schedule') or {}))


def parse_teachers(options: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """Check ``distill.teacher`` or ``distill.teachers``; one of them must be there."""
    several = options.get('teachers')
    if several is None:
        return {'': parse_teacher(f'{ROOT}.teacher', options.get('teacher'))}
    key = f'{ROOT}.teachers'
    if options.get('teacher') is not None:
        raise ConfigError(f'{key}: cannot be combined with `{ROOT}.teacher`; move that one into it, under a name')
    named = mapping(key, several)
    if not named:
        raise ConfigError(f'{key}: is empty; name at least one teacher')
    for name in named:
        if not str(name).isidentifier():
            raise ConfigError.at(key, name, 'a teacher name may have letters, digits and underscores')
        if 'loss' in str(name):
            raise ConfigError.at(key, name, "must not contain 'loss': it starts names of logged values, and MMEngine "
                                 'adds those with that word to the training loss')
    return {str(name): parse_teacher(f'{key}.{name}', teacher) for name, teacher in named.items()}


def parse_teacher(key: str, block: Any) -> TeacherConfig:
    """Check one teacher."""
    if block is None:
        raise ConfigError(f'{key}: is required: dict(config=..., checkpoint=PATH|URL|\'auto\')')
    options = mapping(key, block)
    check_keys(key, options, ('config', 'checkpoint', 'allow_random', 'ema', 'offload', 'inference'))
    if options.get('ema') is not None:
        return _parse_average(key, options)
    config = options.get('config')
    if config is None:
        raise ConfigError(f'{key}.config: is required: a config file, "mmdet::..." or a whole config; or write '
                          'ema=dict() to distil from a moving average of the student')
    if isinstance(config, Mapping) and not isinstance(config, Config):
        config = Config(dict(config))
    typed(f'{key}.config', config, (str, Config), 'a config name or a whole config')
    if isinstance(config, Config) and 'model' not in config:
        raise ConfigError(f'{key}.config: defines no model; it has {", ".join(sorted(config.keys())) or "nothing"}')
    checkpoint = options.get('checkpoint')
    allow_random = typed(f'{key}.allow_random', options.get('allow_random', False), bool, 'True or False')
    if checkpoint is None and not allow_random:
        raise ConfigError.at(f'{key}.checkpoint', checkpoint, 'a teacher without weights teaches noise; give a path, a '
                             "URL or 'auto', or write allow_random=True to accept random weights")
    if checkpoint is not None:
        typed(f'{key}.checkpoint', checkpoint, str, 'a path, a URL or \'auto\'')
    offload = typed(f'{key}.offload', options.get('offload', False), bool, 'True or False')
    inference = parse_inference(f'{key}.inference', options.get('inference') or {})
    return TeacherConfig(key, config, checkpoint, offload=offload, inference=inference)


def parse_inference(key: str, block: Any) -> Inference:
    """Check how a teacher is made fast."""
    options = mapping(key, block)
    known = tuple(f.name for f in fields(Inference))
    check_keys(key, options, known)
    precision = options.get('precision', 'auto')
    if precision not in PRECISIONS:
        raise ConfigError.at(f'{key}.precision', precision, f'must be one of {", ".join(map(repr, PRECISIONS))}')
    for name in ('fold', 'stream'):
        typed(f'{key}.{name}', options.get(name, True), bool, 'True or False')
    layout = options.get('channels_last', 'auto')
    if layout != 'auto':
        typed(f'{key}.channels_last', layout, bool, "True, False or 'auto'")
    typed(f'{key}.compile', options.get('compile', False), (bool, Mapping),
          'True, False, or a dict with arguments of torch.compile')
    return Inference(**{name: options[name] for name in known if name in options})


def _parse_average(key: str, options: Mapping[str, Any]) -> TeacherConfig:
    given = [name for name in ('config', 'checkpoint', 'allow_random', 'offload', 'inference')
             if options.get(name)]
    if given:
        raise ConfigError(f'{key}.ema: an average of the student has no {", ".join(given)}; give one or the other')
    ema = mapping(f'{key}.ema', options['ema'])
    check_keys(f'{key}.ema', ema, ('momentum',))
    momentum = typed(f'{key}.ema.momentum', ema.get('momentum', DEFAULT_MOMENTUM), (int, float), 'a number')
    if not 0 < momentum < 1:
        raise ConfigError.at(f'{key}.ema.momentum', momentum, 'must be between 0 and 1: the share of the student in '
                             'each update')
    return TeacherConfig(key, None, None, float(momentum))


def parse_schedule(block: Any) -> Schedule:
    """Check ``distill.schedule``."""
    key = f'{ROOT}.schedule'
    options = mapping(key, block)
    check_keys(key, options, ('start', 'end', 'warmup', 'by_epoch'))
    start = count(f'{key}.start', options.get('start', 0))
    end = None if options.get('end') is None else count(f'{key}.end', options['end'])
    if end is not None and end <= start:
        raise ConfigError.at(f'{key}.end', end, f'must be greater than start = {start}')
    return Schedule(start, end, count(f'{key}.warmup', options.get('warmup', 0)),
                    typed(f'{key}.by_epoch', options.get('by_epoch', False), bool, 'True or False'))
