"""The whole ``distill`` block, checked before anything is built."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from ..errors import ConfigError
from .checks import ROOT, boolean, check_keys, mapping, of_type
from .loss_config import LossConfig, parse_losses
from .preemption_config import PreemptionConfig, parse_preemption
from .report_config import ReportConfig, parse_report
from .schedule import Schedule, parse_schedule
from .teacher_config import TeacherConfig, parse_teachers


@dataclass(frozen=True)
class DistillConfig:
    """The ``distill`` block.

    Attributes:
        teachers: By name; a single ``distill.teacher`` has the empty name.
        losses: None where a preset is to choose them.
        preset: The preset, or None for the one that fits.
        schedule: When distillation acts.
        report: The page that is written while training; None for none.
        exact_resume: Whether checkpoints keep random states and the place in the data.
        preemption: How to react when a scheduler ends the job; None to keep the default reaction to signals.
    """

    teachers: Mapping[str, TeacherConfig]
    losses: list[LossConfig] | None
    preset: str | None
    schedule: Schedule
    report: ReportConfig | None = field(default_factory=ReportConfig)
    exact_resume: bool = True
    preemption: PreemptionConfig | None = field(default_factory=PreemptionConfig)


def parse_distill(block: Any) -> DistillConfig:
    """Check a ``distill`` block.

    Args:
        block: The block as the config has it.

    Raises:
        ConfigError: And its kinds; the message names the key and quotes the value.

    Example:
        >>> from mmsrd.config import parse_distill
        >>> teacher = dict(config='mmdet::fcos/x.py', checkpoint='auto')
        >>> config = parse_distill(dict(teacher=teacher, schedule=dict(end=9)))
        >>> config.teachers[''].checkpoint, config.schedule.end
        ('auto', 9)
        >>> parse_distill(dict(tacher=dict()))
        Traceback (most recent call last):
        ...
        mmsrd.errors.UnknownKeyError: distill: unknown key 'tacher' (did you mean 'teacher' or 'teachers'?). Known \
keys: exact_resume, losses, preemption, preset, report, schedule, teacher, teachers
    """
    if block is None:
        raise ConfigError(f"{ROOT}: the config has no `{ROOT}` block; add {ROOT}=dict(teacher=dict(config=..., "
                          'checkpoint=...)) or use the ordinary Runner')
    options = mapping(ROOT, block)
    check_keys(ROOT, options, ('teacher', 'teachers', 'losses', 'preset', 'schedule', 'report', 'exact_resume',
                               'preemption'))
    preset, losses = options.get('preset'), options.get('losses')
    if preset is not None:
        of_type(f'{ROOT}.preset', preset, str, 'the name of a preset')
    if losses is not None and preset is not None:
        raise ConfigError.at(f'{ROOT}.preset', preset, f'cannot be combined with `{ROOT}.losses`; give one of them')
    teachers = parse_teachers(options)
    return DistillConfig(teachers, None if losses is None else parse_losses(losses, list(teachers)), preset,
                         parse_schedule(options.get('schedule')), parse_report(options.get('report')),
                         boolean(f'{ROOT}.exact_resume', options.get('exact_resume', True)),
                         parse_preemption(options.get('preemption')))
