"""``distill.losses``: what is compared with what."""
from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

from torch import nn

from ..errors import ConfigError, ConfigTypeError, UnknownKeyError
from .checks import ROOT, mapping, number, of_type, one_of, read, setting, text

RESIZES = ('to_student', 'to_teacher', 'none')
TOKENS = ('all', 'patch')
"""``'all'`` compares sequences as they are; ``'patch'`` leaves class and distillation tokens out."""
BY_STRIDE = 'stride'
"""``levels='stride'`` pairs the levels of the same stride."""
OWN_KEYS = ('student', 'teacher', 'from_teacher', 'weight', 'balance', 'levels', 'resize', 'pool', 'tokens',
            'projector')
"""Keys of a loss that are not arguments of its module."""
_OTHER_NAMES = {'loss_weight': 'weight', 'tau': 'temperature'}
"""What OpenMMLab's losses and other toolboxes call a key."""
_TEMPERED = ('KLDivLoss', 'BinaryKLDivLoss', 'CWDLoss', 'DISTLoss', 'LDLoss')


def _levels(key: str, value: Any) -> list[tuple[int, int]] | str:
    if isinstance(value, str) and value == BY_STRIDE:
        return value
    accepted = f'a list of level indices [0, 1] or of (student, teacher) pairs [(0, 1)], or {BY_STRIDE!r}'
    levels: list[tuple[int, int]] = []
    for item in of_type(key, value, (list, tuple), accepted):
        pair = tuple(item) if isinstance(item, (list, tuple)) else (item, item)
        if len(pair) != 2 or not all(isinstance(i, int) and not isinstance(i, bool) for i in pair):
            raise ConfigTypeError.at(key, value, f'must be {accepted}')
        levels.append((pair[0], pair[1]))
    if not levels:
        raise ConfigError.at(key, value, f'must be {accepted}, with at least one')
    return levels


def _projector(key: str, value: Any) -> Any:
    if isinstance(value, str) and value == 'auto':
        return value
    return mapping(key, value, accepted="'auto', None or a dict such as dict(type='LinearProjector')")


@dataclass(frozen=True)
class LossConfig:
    """``distill.losses.<name>``: one comparison of a student and a teacher feature.

    Attributes:
        name: Key in ``losses``; part of the logged names.
        module: ``type`` and arguments of the loss.
        student: Dotted path of the student's module.
        teacher: Dotted path of the teacher's module.
        teacher_name: Name of the teacher; empty where there is only one.
        weight: Multiplier of the loss.
        balance: Norm of the gradient that the loss sends into a level of the student, over the norm of the gradient
            that the student's own losses send there; None for a constant weight.
        levels: None for all levels in their order, ``'stride'`` for those of the same stride, else (student, teacher)
            index pairs.
        resize: Which map is resized where sizes differ, one of :data:`RESIZES`.
        pool: Whether features are averaged over positions first.
        tokens: Which tokens of a sequence are compared, one of :data:`TOKENS`.
        projector: ``type`` and arguments; None to compare without one; ``'auto'`` for a ``LinearProjector``,
            or none where the loss compares logits.
        preset: Name of the preset that chose it; empty where the config names it.
    """

    name: str
    module: Mapping[str, Any]
    student: str = setting(text('the dotted path of a module'))
    teacher: str = setting(text('the dotted path of a module'))
    teacher_name: str = ''
    weight: float = setting(partial(number, at_least=0), 1.0)
    balance: Optional[float] = setting(partial(number, above=0), None)
    levels: Union[List[Tuple[int, int]], str, None] = setting(_levels, None)
    resize: str = setting(partial(one_of, accepted=RESIZES), 'to_student')
    pool: bool = False
    tokens: str = setting(partial(one_of, accepted=TOKENS), 'all')
    projector: Union[Mapping[str, Any], str, None] = setting(_projector, 'auto')
    preset: str = ''

    @property
    def projector_text(self) -> str:
        """Type of the projectors, as text."""
        kind: Any = self.projector.get('type') if isinstance(self.projector, Mapping) else self.projector
        return 'none' if kind is None else kind if isinstance(kind, str) else str(kind.__name__)

    @property
    def module_text(self) -> str:
        """Type and arguments of the loss, as text."""
        kind = self.module['type']
        arguments = ', '.join(f'{name}={value!r}' for name, value in self.module.items() if name != 'type')
        return f'{kind if isinstance(kind, str) else kind.__name__}({arguments})'

    @property
    def key(self) -> str:
        """Config key of this loss, for messages."""
        return f'{ROOT}.losses.{self.name}'


def parse_losses(block: Any, teachers: Sequence[str] = ('',)) -> list[LossConfig]:
    """Check ``distill.losses``.

    Args:
        block: The block as the config has it.
        teachers: Names that a loss may refer to.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
    """
    key = f'{ROOT}.losses'
    losses = mapping(key, block)
    if not losses:
        raise ConfigError(f'{key}: is empty; name at least one loss, or leave it out for a preset')
    return [parse_loss(str(name), options, teachers) for name, options in losses.items()]


def parse_loss(name: str, block: Any, teachers: Sequence[str] = ('',)) -> LossConfig:
    """Check ``distill.losses.<name>``; arguments of its modules are checked when those are built.

    Args:
        name: Name of the loss.
        block: What the config has.
        teachers: Names that it may refer to.

    Raises:
        ConfigError: Or a subclass: an entry is not acceptable.
    """
    key = f'{ROOT}.losses.{name}'
    _check_name(name)
    options = mapping(key, block)
    for side in ('student', 'teacher'):
        if options.get(side) is None:
            misspelt = difflib.get_close_matches(side, [name for name in options if name not in OWN_KEYS], n=1)
            if misspelt:
                raise UnknownKeyError.among(key, misspelt[0], OWN_KEYS)
            raise ConfigError(f'{key}.{side}: is required: the dotted path of a module of the {side}, such as \'neck\'')
    kind = options.get('type', 'SRDLoss')
    name_of_kind = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
    for other, own in _OTHER_NAMES.items():
        if other in options and (own in OWN_KEYS or name_of_kind in _TEMPERED):
            if own in options:
                raise ConfigError(f'{key}: has {own}={options[own]!r} and {other}={options[other]!r}, which mean the '
                                  'same; write one of them')
            options[own] = options.pop(other)
    fields = {k: v for k, v in options.items() if k in OWN_KEYS and k != 'from_teacher'}
    config = read(LossConfig, key, fields, name=name, preset='',
                  module={'type': 'SRDLoss', **{k: v for k, v in options.items() if k not in OWN_KEYS}},
                  teacher_name=parse_teacher_name(key, options.get('from_teacher'), teachers))
    if config.balance is not None and 'weight' in options:
        raise ConfigError(
            f'{key}: has weight={options["weight"]!r} and balance={config.balance:g}; write one of them. `weight` '
            'multiplies the loss by a constant. `balance` scales its gradient at each level of the student: it is the '
            "ratio of the gradient's norm to that of the student's own losses")
    return config


def _check_name(name: str) -> None:
    key = f'{ROOT}.losses'
    if not name.isidentifier():
        raise ConfigError.at(key, name, 'a loss name has letters, digits and underscores, and does not begin with a '
                             'digit')
    if hasattr(nn.ModuleDict(), name):
        raise ConfigError.at(key, name, 'is a name that PyTorch modules use themselves; choose another')
    if 'loss' in name:
        raise ConfigError.at(key, name, "must not contain 'loss': MMEngine adds every logged value with that word in "
                             'its name to the training loss')


def parse_teacher_name(key: str, name: Any, teachers: Sequence[str]) -> str:
    """Check ``from_teacher``: needed where there are several teachers, meaningless where there is one.

    Args:
        key: Config key of the loss.
        name: What the config has.
        teachers: Names of the teachers; an empty one for a single teacher.

    Raises:
        ConfigError: It is missing, or names no teacher.
    """
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
