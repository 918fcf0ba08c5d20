"""``distill.losses``: what is compared with what, checked before any model is built."""
from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from torch import nn

from .config_checks import ROOT, check_keys, mapping, typed
from .errors import ConfigError, ConfigTypeError, did_you_mean
from .matching import RESIZES
from .registry import MODELS
from .rng import preserved_rng
from .tokens import TOKENS

_NAME_PATTERN = 'letters, digits and underscores'


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
        source: Name of the teacher; empty where there is only one.
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
    source: str = ''

    @property
    def key(self) -> str:
        """Config key of this loss, for messages."""
        return f'{ROOT}.losses.{self.name}'


def parse_losses(block: Any, teachers: Sequence[str] = ('',)) -> list[LossConfig]:
    """Check ``distill.losses``; ``teachers`` are the names that a loss may refer to."""
    key = f'{ROOT}.losses'
    losses = mapping(key, block)
    if not losses:
        raise ConfigError(f'{key}: is empty; name at least one loss, or leave it out for a preset')
    with preserved_rng():  # arguments are checked by building modules, which draws initial weights
        return [parse_loss(str(name), options, teachers) for name, options in losses.items()]


def parse_loss(name: str, block: Any, teachers: Sequence[str]) -> LossConfig:
    """Check ``distill.losses.<name>``, the arguments of its module included."""
    key = f'{ROOT}.losses.{name}'
    if not name.isidentifier():
        raise ConfigError.at(f'{ROOT}.losses', name, f'a loss name may have {_NAME_PATTERN}')
    if hasattr(nn.ModuleDict(), name):
        raise ConfigError.at(f'{ROOT}.losses', name, 'is a name that PyTorch modules use themselves; choose another')
    if 'loss' in name:
        raise ConfigError.at(f'{ROOT}.losses', name, "must not contain 'loss': MMEngine adds every logged value with "
                             'that word in its name to the training loss')
    options = mapping(key, block)
    own = ('student', 'teacher', 'from_teacher', 'weight', 'levels', 'resize', 'pool', 'tokens', 'projector')
    module = {k: v for k, v in options.items() if k not in own}
    module.setdefault('type', 'SRDLoss')
    criterion = build_module(key, module, also_known=own)  # only to check its arguments
    compares_logits = bool(getattr(criterion, 'compares_logits', False))
    taps = {}
    for side in ('student', 'teacher'):
        if options.get(side) is None:
            raise ConfigError(f'{key}.{side}: is required: the dotted path of a module of the {side}, such as \'neck\'')
        taps[side] = typed(f'{key}.{side}', options[side], str, 'the dotted path of a module')
    weight = float(typed(f'{key}.weight', options.get('weight', 1.0), (int, float), 'a number'))
    if not (weight >= 0 and math.isfinite(weight)):
        raise ConfigError.at(f'{key}.weight', options['weight'], 'must be finite and not negative')
    choices = {}
    for choice, default, accepted in (('resize', 'to_student', RESIZES), ('tokens', 'all', TOKENS)):
        choices[choice] = options.get(choice, default)
        if choices[choice] not in accepted:
            raise ConfigError.at(f'{key}.{choice}', choices[choice], f'must be one of {", ".join(map(repr, accepted))}')
    projector = options.get('projector', None if compares_logits else dict(type='LinearProjector'))
    if projector is not None:
        projector = mapping(f'{key}.projector', projector)
        build_module(f'{key}.projector', projector, in_channels=1, out_channels=1)
    return LossConfig(
        name, module, taps['student'], taps['teacher'], weight, parse_levels(key, options.get('levels')),
        choices['resize'], typed(f'{key}.pool', options.get('pool', False), bool, 'True or False'), projector,
        compares_logits, choices['tokens'], parse_source(key, options.get('from_teacher'), teachers))


def parse_source(key: str, name: Any, teachers: Sequence[str]) -> str:
    """Check ``from_teacher``: needed where there are several teachers, meaningless where there is one."""
    named = [teacher for teacher in teachers if teacher]
    if name is None and len(teachers) == 1:
        return teachers[0]
    accepted = f'`{ROOT}.teachers` has {", ".join(map(repr, named))}' if named else \
        f'there is one `{ROOT}.teacher`; several go into `{ROOT}.teachers`'
    if name is None:
        raise ConfigError(f'{key}.from_teacher: is required where there are several teachers; {accepted}')
    if name not in named:
        raise ConfigError.at(f'{key}.from_teacher', name, f'is not a teacher; {accepted}')
    return str(name)


def parse_levels(key: str, value: Any) -> list[tuple[int, int]] | None:
    """Check ``levels``: None, or a non-empty list of indices or pairs of indices; indices become pairs."""
    if value is None:
        return None
    accepted = 'a list of level indices [0, 1] or of (student, teacher) pairs [(0, 1)]'
    levels: list[tuple[int, int]] = []
    for item in typed(f'{key}.levels', value, (list, tuple), accepted):
        pair = tuple(item) if isinstance(item, (list, tuple)) else (item, item)
        if len(pair) != 2 or not all(isinstance(i, int) and not isinstance(i, bool) for i in pair):
            raise ConfigTypeError.at(f'{key}.levels', value, f'must be {accepted}')
        levels.append((pair[0], pair[1]))
    if not levels:
        raise ConfigError.at(f'{key}.levels', value, f'must be {accepted}, with at least one')
    return levels


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
    if not inspect.isclass(cls) or not issubclass(cls, nn.Module) or cls.__module__.startswith('mmsrd.models'):
        known = sorted(n for n, c in MODELS.module_dict.items() if not c.__module__.startswith('mmsrd.models'))
        raise ConfigError.at(f'{key}.type', kind, 'is not a registered loss or projector'
                             f'{did_you_mean(str(kind), known)}; mmsrd has {", ".join(known)}')
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(key, arguments, (*(p for p in parameters if p not in given), *also_known))
    try:
        module: nn.Module = cls(**arguments, **given)
    except ConfigError as e:
        raise type(e)(f'{key}.{e}') from e
    except TypeError as e:
        raise ConfigTypeError(f'{key}: {cls.__name__} does not accept {arguments} ({e})') from e
    return module
