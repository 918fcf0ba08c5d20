"""``distill.teacher`` and ``distill.teachers``: which models teach, with which weights, how they are made fast."""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Mapping, Optional, Tuple, Union

from mmengine.config import Config

from ..errors import ConfigError, ConfigTypeError
from .checks import ROOT, check_keys, mapping, number, of_type, one_of, read, setting, text, whole_number

DEFAULT_MOMENTUM = 0.0002  # MMEngine's, of its EMA
CHECK_IMAGES = 200
"""Images that a teacher is evaluated on where the config does not say how many."""
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
PLAIN: dict[str, Any] = dict(precision='fp32', fold=False, channels_last=False, stream=False, compile=False)
"""``inference`` that leaves a teacher unchanged: all speed-ups switched off."""


def _layout(key: str, value: Any) -> Any:
    return value if isinstance(value, str) and value == 'auto' else of_type(key, value, bool, "True, False or 'auto'")


@dataclass(frozen=True)
class InferenceConfig:
    """``teacher.inference``: how a frozen model is made fast; each entry has a value that switches it off.

    Attributes:
        precision: ``'bf16'`` or ``'fp16'``: weights of convolutions and linear layers are stored in it and the
            rest runs under autocast; ``'fp32'``: no autocast; ``'auto'``: as the student trains.
        fold: Fuse batch normalisation into the convolution before it.
        channels_last: Convolutions in channels-last layout; ``'auto'``: on CUDA in half precision, for tensor cores.
        stream: On CUDA, run in a separate stream, in parallel with the student's head.
        compile: ``torch.compile`` the parts between the recorded modules; a dict has its arguments.
    """

    precision: str = setting(partial(one_of, accepted=PRECISIONS), 'auto')
    fold: bool = True
    channels_last: Union[bool, str] = setting(_layout, 'auto')
    stream: bool = True
    compile: Union[bool, Mapping[str, Any]] = setting(partial(
        of_type, kind=(bool, Mapping), accepted='True, False, or a dict with arguments of torch.compile'), False)


def _model_config(key: str, value: Any) -> str | Config:
    if value is None:
        raise ConfigError(f'{key}: is required: a config file, "mmdet::..." or a whole config; or write ema=dict() to '
                          'distil from a moving average of the student')
    if isinstance(value, Mapping) and not isinstance(value, Config):
        whole = mapping(key, value)
        value = Config(dict(model=whole) if 'type' in whole else whole)
    of_type(key, value, (str, Config), 'a config name, a whole config, or a model')
    if isinstance(value, Config) and 'model' not in value:
        raise ConfigError(f'{key}: defines no model; it has {", ".join(sorted(value.keys())) or "nothing"}')
    return value


def _images(key: str, value: Any) -> int:
    if isinstance(value, bool):
        return CHECK_IMAGES * value
    options = mapping(key, value, accepted='True, False or dict(images=...)')
    check_keys(key, options, ('images',))
    return whole_number(f'{key}.images', options.get('images', CHECK_IMAGES), at_least=1)


def _size(key: str, value: Any) -> tuple[int, int]:
    sides = of_type(key, value, (list, tuple), 'height and width in pixels, such as (640, 640)')
    if len(sides) != 2:
        raise ConfigError.at(key, value, 'must be height and width in pixels, such as (640, 640)')
    return whole_number(key, sides[0], at_least=1), whole_number(key, sides[1], at_least=1)


def _names(key: str, value: Any) -> tuple[str, ...]:
    names = of_type(key, value, (list, tuple), 'a list of names')
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigTypeError.at(key, value, 'must be a list of names')
    return tuple(names)


@dataclass(frozen=True)
class PretrainedTeacherConfig:
    """A teacher that has been trained before.

    Attributes:
        key: Where it stands in the config.
        config: Config name (path or ``package::name``), a whole config, or its ``model``.
        checkpoint: Path, URL or ``'auto'``; None for random weights.
        allow_random: Whether random weights are meant.
        scale: Size of the images that it sees, as a multiple of the student's.
        size: Height and width in pixels of the images that it sees, whatever the student's are; None for ``scale``.
        offload: Whether its weights stay in host memory.
        inference: How it is made fast.
        init_student: Whether the student starts with the layers of neck and heads that both have; None for what the
            preset does.
        check: Images of the student's validation set that it is evaluated on before training; 0 for none, None for
            :data:`CHECK_IMAGES` if it has the student's task and classes and is not offloaded, else none.
        swap_channels: Whether it takes channels in the other order than the student; None for what their data
            preprocessors say.
        classes: Names of its classes in their order; None for those in its checkpoint or config.
    """

    kind: ClassVar[str] = 'PretrainedTeacher'

    key: str
    config: Union[str, Config] = setting(_model_config)
    checkpoint: Optional[str] = setting(text("a path, a URL or 'auto'"), None)
    allow_random: bool = False
    scale: float = setting(partial(number, above=0), 1.0)
    size: Optional[Tuple[int, int]] = setting(_size, None)
    offload: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig,
                                       metadata=dict(check=partial(read, InferenceConfig)))
    init_student: Optional[bool] = None
    check: Optional[int] = setting(_images, None)
    swap_channels: Optional[bool] = None
    classes: Optional[Tuple[str, ...]] = setting(_names, None)

    @property
    def name(self) -> str:
        """Name of the config, or of what stands for it."""
        return self.config if isinstance(self.config, str) else str(self.config.filename or 'config given inline')


@dataclass(frozen=True)
class EMATeacherConfig:
    """A teacher that is a moving average of the student.

    Attributes:
        key: Where it stands in the config.
        momentum: Share of the student in each update.
    """

    kind: ClassVar[str] = 'EMATeacher'

    key: str
    momentum: float = setting(partial(number, above=0, below=1, meaning='the share of the student in each update'),
                              DEFAULT_MOMENTUM)

    @property
    def name(self) -> str:
        """Description of the average."""
        return f'an average of the student, momentum {self.momentum:g}'


@dataclass(frozen=True)
class OwnTeacherConfig:
    """A teacher of a kind that a user has registered in :data:`mmsrd.registry.TEACHERS`.

    Attributes:
        key: Where it stands in the config.
        kind: Name of the kind, or the class.
        arguments: The other entries of the block.
    """

    key: str
    kind: Union[str, type]
    arguments: Mapping[str, Any]


TeacherConfig = Union[PretrainedTeacherConfig, EMATeacherConfig, OwnTeacherConfig]


def parse_teachers(options: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """Check ``distill.teacher`` or ``distill.teachers``; one of them must be there.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
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
        if not name.isidentifier():
            raise ConfigError.at(key, name, 'a teacher name has letters, digits and underscores, and does not begin '
                                 'with a digit')
        if 'loss' in name:
            raise ConfigError.at(key, name, "must not contain 'loss': logged names begin with it, and MMEngine adds "
                                 'every logged value with that word to the training loss')
    teachers = {name: parse_teacher(f'{key}.{name}', teacher) for name, teacher in named.items()}
    giving = [name for name, teacher in teachers.items() if getattr(teacher, 'init_student', False)]
    if len(giving) > 1:
        raise ConfigError(f'{key}: init_student=True in {" and ".join(giving)}; set it for one teacher only')
    return teachers


def parse_teacher(key: str, block: Any) -> TeacherConfig:
    """Check one teacher.

    Args:
        key: Config key of the block.
        block: What the config has.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
    """
    if block is None:
        raise ConfigError(f"{key}: is required: dict(config=..., checkpoint=PATH|URL|'auto')")
    options = mapping(key, block, accepted="dict(config=..., checkpoint=PATH|URL|'auto')")
    if options.get('type') is not None:
        kind = of_type(f'{key}.type', options.pop('type'), (str, type), 'the name of a kind of teacher, or its class')
        own = _name_of_own_kind(kind)
        if own == EMATeacherConfig.kind:
            options = options if 'ema' in options else dict(ema=options)
        elif own != PretrainedTeacherConfig.kind:
            return OwnTeacherConfig(key, kind, options)
    if options.get('ema') is not None:
        given = [name for name in options if name != 'ema' and options[name]]
        if given:
            raise ConfigError(f'{key}.ema: cannot be combined with {", ".join(given)}; remove them, or `ema`')
        return read(EMATeacherConfig, f'{key}.ema', options['ema'], key=key)
    return read_pretrained(key, options)


def _name_of_own_kind(kind: str | type) -> str:
    """Return the name of a kind of this package that is given as name, with scope, or as class; else nothing."""
    scope, _, name = (kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__qualname__}').rpartition('.')
    return name if scope.partition('.')[0] in ('', 'mmsrd') else ''


def read_pretrained(key: str, options: Mapping[str, Any]) -> PretrainedTeacherConfig:
    """Check a teacher that has been trained before.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
    """
    config = read(PretrainedTeacherConfig, key, options, ('ema', 'type'), key=key)
    if config.size is not None and config.scale != 1:
        raise ConfigError(f'{key}: has scale={config.scale:g} and size={config.size}; give one of them')
    if config.checkpoint is None and not config.allow_random:
        raise ConfigError.at(f'{key}.checkpoint', None, 'the teacher would have random weights; give a path, a '
                             "URL or 'auto', or write allow_random=True to accept random weights")
    return config
