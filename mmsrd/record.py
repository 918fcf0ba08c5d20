"""What a checkpoint tells about its distillation, so that a resume can say what has changed since."""
from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any, Mapping

from torch import nn

from .config_checks import ROOT
from .distiller import ProjectorDistiller
from .ema_teacher import EmaTeacher

_MEANING = ('student', 'teacher', 'levels', 'pool', 'resize', 'tokens', 'projector', 'from_teacher', 'model', 'weights')
"""Last parts of the keys that say what a projector maps from and to."""


def describe_run(distiller: ProjectorDistiller, processes: int) -> dict[str, Any]:
    """Teachers, taps, losses, schedule and processes by config key, in types that any checkpoint reader accepts."""
    record: dict[str, Any] = {'number of processes': processes}
    for teacher in distiller.teachers.values():
        record[f'{teacher.key}.model'] = type(teacher.model).__name__
        if not isinstance(teacher, EmaTeacher):  # that one comes back with the checkpoint
            record[f'{teacher.key}.weights'] = teacher.digest
    for name, config in distiller.configs.items():
        options = dict(
            student=config.student, teacher=config.teacher, from_teacher=config.source, pool=config.pool,
            levels=[[pair.student, pair.teacher] for pair in distiller.pairs[name]], resize=config.resize,
            tokens=config.tokens, projector=config.projector, weight=config.weight,
            **_arguments(distiller.criteria[name], config.module))
        record.update({f'{config.key}.{option}': _plain(value) for option, value in options.items()})
    record.update({f'{ROOT}.schedule.{option}': value for option, value in asdict(distiller.schedule).items()})
    return record


def _arguments(module: nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that ``module`` was built with, defaults included."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(module)).parameters.items()
                if parameter.default is not parameter.empty}
    return {**defaults, **given, 'type': type(module).__name__}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Compare two records.

    Args:
        saved: That of the checkpoint.
        now: That of the run that resumes.

    Returns:
        tuple: What makes the saved projectors meaningless, and what merely changes how training goes on.
    """
    fatal: list[str] = []
    notable: list[str] = []
    for key in {**saved, **now}:
        old, new = saved.get(key), now.get(key)
        if old == new:
            continue
        text = f'{key} was {old!r} and is {new!r}'
        if key.endswith('.weights'):
            text = f'{key} are others than before (checksum {old} was, {new} is)'
        # A whole loss or teacher more or less shows in its projectors, if it has some.
        is_fatal = key.rpartition('.')[2] in _MEANING and None not in (old, new)
        (fatal if is_fatal else notable).append(text)
    return fatal, notable
