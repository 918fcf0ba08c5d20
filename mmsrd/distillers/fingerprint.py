"""What a checkpoint tells about its distillation, so that a resume can say what has changed since."""
from __future__ import annotations

from dataclasses import asdict
from typing import Any, Mapping

from ..config.checks import ROOT
from .distiller import ProjectorDistiller

_MEANING = ('student', 'teacher', 'levels', 'pool', 'resize', 'tokens', 'projector', 'from_teacher', 'model', 'weights')
"""Last parts of the keys that say what a projector maps from and to."""
LABELS = f'{ROOT}.labels'
"""Recorded where a student has none."""
_LATER = (('decay', None), ('interval', 1))


def fingerprint_of(distiller: ProjectorDistiller, num_processes: int) -> dict[str, Any]:
    """Teachers, losses, schedule and processes by config key, in types that any checkpoint reader accepts."""
    fingerprint: dict[str, Any] = {'number of processes': num_processes}
    for teacher in distiller.teachers.values():
        fingerprint.update({f'{teacher.key}.{option}': value for option, value in teacher.fingerprint().items()})
    for loss in distiller.feature_losses:
        fingerprint.update({f'{loss.config.key}.{option}': _plain(value)
                            for option, value in loss.fingerprint().items()})
    if distiller.plan.untrained is not None:
        fingerprint[LABELS] = False
    schedule = asdict(distiller.progress.schedule)
    # Records of earlier versions do not have these.
    schedule = {option: value for option, value in schedule.items() if (option, value) not in _LATER}
    fingerprint.update({f'{ROOT}.schedule.{option}': value for option, value in schedule.items()})
    return fingerprint


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Compare two fingerprints.

    Args:
        saved: That of the checkpoint.
        now: That of the run that resumes.

    Returns:
        tuple: What makes the saved projectors meaningless, and what merely changes how training goes on.
    """
    fatal: list[str] = []
    notable: list[str] = []
    for key in {**saved, **now}:
        old, new = (side.get(key, True if key == LABELS else None) for side in (saved, now))
        if old == new:
            continue
        text = f'{key} was {old!r} and is now {new!r}'
        if key.endswith('.weights'):
            text = f'{key} have changed (checksum was {old}, is now {new})'
        # A whole loss or teacher more or less shows in its projectors, if it has some.
        is_fatal = key.rpartition('.')[2] in _MEANING and None not in (old, new)
        (fatal if is_fatal else notable).append(text)
    return fatal, notable
