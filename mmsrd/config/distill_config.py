"""The whole ``distill`` block, checked before anything is built."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, List, Mapping, Optional, Union

from ..errors import ConfigError
from .checks import ROOT, mapping, of_type, read, read_optional, setting, text
from .loss_config import LossConfig, parse_losses
from .preemption_config import PreemptionConfig
from .schedule import Schedule, parse_schedule
from .teacher_config import EMATeacherConfig, TeacherConfig, parse_teachers


@dataclass(frozen=True)
class ReportConfig:
    """``distill.report``: the page that is written while training, by :class:`mmsrd.DistillReportHook`.

    Attributes:
        images: Validation images that are shown; 0 for none.
        baseline: Work directory of the student alone; None for none.
        metric: Name of the metric that the report is about; None for the main one.
    """

    images: int = 8
    baseline: Optional[str] = setting(text('the work directory of the student alone'), None)
    metric: Optional[str] = setting(text('the name of a metric'), None)


def _always(key: str, value: Any) -> bool | str:
    return value if isinstance(value, str) and value == 'always' else bool(of_type(
        key, value, bool, "True, False or 'always'"))


@dataclass(frozen=True)
class DistillConfig:
    """The ``distill`` block.

    Attributes:
        teachers: By name; a single ``distill.teacher`` has the empty name.
        losses: None where a preset is to choose them.
        preset: The preset, or None for the one that fits.
        schedule: When distillation acts.
        labels: Whether the student's own losses train it, too; False to learn from the teachers' features alone.
        report: The page that is written while training; None for none.
        device_check: Whether the first distilled step is checked: True on accelerators, ``'always'`` on a CPU, too.
        exact_resume: Whether checkpoints keep random states and the place in the data.
        preemption: How to react when a scheduler ends the job; None to keep the default reaction to signals.
    """

    teachers: Mapping[str, TeacherConfig]
    losses: Optional[List[LossConfig]]
    preset: Optional[str] = setting(text('the name of a preset'), None)
    schedule: Schedule = field(default_factory=Schedule, metadata=dict(check=parse_schedule))
    labels: bool = True
    report: Optional[ReportConfig] = field(default_factory=ReportConfig,
                                           metadata=dict(check=partial(read_optional, ReportConfig)))
    device_check: Union[bool, str] = setting(_always, True)
    exact_resume: bool = True
    preemption: Optional[PreemptionConfig] = field(default_factory=PreemptionConfig,
                                                   metadata=dict(check=partial(read_optional, PreemptionConfig)))


def _check_without_labels(schedule: Schedule, teachers: Mapping[str, TeacherConfig]) -> None:
    """Say why a student cannot learn without labels, if so.

    Raises:
        ConfigError: A step would have no loss, or a teacher is an average of the student.
    """
    for option, usual in (('start', 0), ('end', None), ('interval', 1)):
        value = getattr(schedule, option)
        if value != usual:
            raise ConfigError.at(f'{ROOT}.schedule.{option}', value, f'with {ROOT}.labels=False, steps without '
                                 f'distillation would have no loss; remove `{option}`')
    for teacher in teachers.values():
        if isinstance(teacher, EMATeacherConfig):
            raise ConfigError(f'{teacher.key}: with {ROOT}.labels=False, an average of the student has nothing to '
                              'teach it; name a trained model')


_PARTS = ('schedule', 'report', 'preemption')
_ELSEWHERE = ('teacher', 'teachers', 'losses')


def parse_distill(block: Any) -> DistillConfig:
    """Check a ``distill`` block.

    Args:
        block: The block as the config has it.

    Raises:
        ConfigError: Or a subclass; the message names the key and quotes the value.

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
keys: device_check, exact_resume, labels, losses, preemption, preset, report, schedule, teacher, teachers
    """
    if block is None:
        raise ConfigError(f"{ROOT}: the config has no `{ROOT}` block; add {ROOT}=dict(teacher=dict(config=..., "
                          'checkpoint=...)) or use the ordinary Runner')
    options = mapping(ROOT, block)
    # None stands for what is there by default.
    own = {name: value for name, value in options.items() if name not in _ELSEWHERE and
           (value is not None or name not in _PARTS)}
    config = read(DistillConfig, ROOT, own, _ELSEWHERE, teachers={}, losses=None)
    losses = options.get('losses')
    if losses is not None and config.preset is not None:
        raise ConfigError.at(f'{ROOT}.preset', config.preset, f'cannot be combined with `{ROOT}.losses`; give one of '
                             'them')
    teachers = parse_teachers(options)
    if not config.labels:
        _check_without_labels(config.schedule, teachers)
    return replace(config, teachers=teachers,
                   losses=None if losses is None else parse_losses(losses, list(teachers)))
