"""``distill.teacher`` and ``distill.teachers``: which models teach, with which weights."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Union

from mmengine.config import Config

from ..errors import ConfigError, ConfigTypeError
from .checks import ROOT, boolean, check_keys, mapping, number, of_type, whole_number
from .inference_config import InferenceConfig, parse_inference

DEFAULT_MOMENTUM = 0.0002  # MMEngine's, of its EMA
CHECK_IMAGES = 200
"""Images that a teacher is evaluated on where the config does not say how many."""


@dataclass(frozen=True)
class PretrainedTeacherConfig:
    """A teacher that has been trained before.

    Attributes:
        key: Where it stands in the config.
        config: Config name (path or ``package::name``) or a whole config.
        checkpoint: Path, URL or ``'auto'``; None for random weights.
        offload: Whether its weights stay in host memory.
        inference: How it is made fast.
        init_student: Whether the student starts with the layers of neck and heads that both have; None for what the
            preset does.
        check: Images of the student's validation set that it is evaluated on before training; 0 for none, None for
            what :class:`mmsrd.engine.hooks.TeacherCheckHook` does.
        swap_channels: Whether it takes channels in the other order than the student; None for what their data
            preprocessors say.
        classes: Names of its classes in their order; None for those in its checkpoint or config.
    """

    key: str
    config: Union[str, Config]
    checkpoint: str | None
    offload: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    init_student: bool | None = None
    check: int | None = None
    swap_channels: bool | None = None
    classes: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Where the model's config comes from."""
        return self.config if isinstance(self.config, str) else str(self.config.filename or 'config given inline')


@dataclass(frozen=True)
class EMATeacherConfig:
    """A teacher that is a moving average of the student.

    Attributes:
        key: Where it stands in the config.
        momentum: Share of the student in each update.
    """

    key: str
    momentum: float = DEFAULT_MOMENTUM

    @property
    def name(self) -> str:
        """What it is."""
        return f'an average of the student, momentum {self.momentum:g}'


TeacherConfig = Union[PretrainedTeacherConfig, EMATeacherConfig]


def parse_teachers(options: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """Check ``distill.teacher`` or ``distill.teachers``; one of them must be there.

    Raises:
        ConfigError: And its kinds.
    """
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
            raise ConfigError.at(key, name, "must not contain 'loss': logged names begin with it, and MMEngine adds "
                                 'every logged value with that word to the training loss')
    teachers = {str(name): parse_teacher(f'{key}.{name}', teacher) for name, teacher in named.items()}
    giving = [name for name, teacher in teachers.items()
              if isinstance(teacher, PretrainedTeacherConfig) and teacher.init_student]
    if len(giving) > 1:
        raise ConfigError(f'{key}: init_student=True in {" and ".join(giving)}; set it for one teacher only')
    return teachers


def parse_teacher(key: str, block: Any) -> TeacherConfig:
    """Check one teacher.

    Raises:
        ConfigError: And its kinds.
    """
    if block is None:
        raise ConfigError(f'{key}: is required: dict(config=..., checkpoint=PATH|URL|\'auto\')')
    options = mapping(key, block)
    check_keys(key, options, ('config', 'checkpoint', 'allow_random', 'ema', 'offload', 'inference', 'init_student',
                              'check', 'swap_channels', 'classes'))
    return _parse_pretrained(key, options) if options.get('ema') is None else _parse_average(key, options)


def _parse_pretrained(key: str, options: Mapping[str, Any]) -> PretrainedTeacherConfig:
    config, checkpoint = options.get('config'), options.get('checkpoint')
    if config is None:
        raise ConfigError(f'{key}.config: is required: a config file, "mmdet::..." or a whole config; or write '
                          'ema=dict() to distil from a moving average of the student')
    if isinstance(config, Mapping) and not isinstance(config, Config):
        config = Config(mapping(f'{key}.config', config))
    of_type(f'{key}.config', config, (str, Config), 'a config name or a whole config')
    if isinstance(config, Config) and 'model' not in config:
        raise ConfigError(f'{key}.config: defines no model; it has {", ".join(sorted(config.keys())) or "nothing"}')
    allow_random = boolean(f'{key}.allow_random', options.get('allow_random', False))
    if checkpoint is not None:
        of_type(f'{key}.checkpoint', checkpoint, str, 'a path, a URL or \'auto\'')
    elif not allow_random:
        raise ConfigError.at(f'{key}.checkpoint', checkpoint, 'the teacher would have random weights; give a path, a '
                             "URL or 'auto', or write allow_random=True to accept random weights")
    init_student, swap = options.get('init_student'), options.get('swap_channels')
    return PretrainedTeacherConfig(
        key, config, checkpoint, boolean(f'{key}.offload', options.get('offload', False)),
        parse_inference(f'{key}.inference', options.get('inference')),
        None if init_student is None else boolean(f'{key}.init_student', init_student),
        _parse_check(f'{key}.check', options.get('check')),
        None if swap is None else boolean(f'{key}.swap_channels', swap),
        _parse_classes(f'{key}.classes', options.get('classes')))


def _parse_classes(key: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = of_type(key, value, (list, tuple), 'a list of names')
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigTypeError.at(key, value, 'must be a list of names')
    return tuple(names)


def _parse_check(key: str, block: Any) -> int | None:
    if block is None or isinstance(block, bool):
        return None if block is None else CHECK_IMAGES * block
    options = mapping(key, block)
    check_keys(key, options, ('images',))
    return whole_number(f'{key}.images', options.get('images', CHECK_IMAGES), at_least=1)


def _parse_average(key: str, options: Mapping[str, Any]) -> EMATeacherConfig:
    given = [name for name in options if name != 'ema' and options[name]]
    if given:
        raise ConfigError(f'{key}.ema: an average of the student has no {", ".join(given)}; give one or the other')
    ema = mapping(f'{key}.ema', options['ema'])
    check_keys(f'{key}.ema', ema, ('momentum',))
    return EMATeacherConfig(key, number(f'{key}.ema.momentum', ema.get('momentum', DEFAULT_MOMENTUM), above=0, below=1,
                                        meaning='the share of the student in each update'))
