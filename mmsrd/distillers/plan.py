"""``DistillPlan``: what will be compared with what. :func:`plan` finds it, :func:`build_losses` makes what it says."""
from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Mapping, Optional, Sequence, Union

import torch
from torch import nn

from ..config import DistillConfig, LossConfig, Schedule, parse_distill
from ..errors import ConfigError, TapError, TeacherError
from ..recorders import FORWARDS, SIDES, DryRun, Recording, dry_run, fixed_sides, unique_paths
from ..teachers import StudentInit, Teacher, TeacherGroup, TeacherPlan, kind_of
from ..utils.random_state import preserved_random_state
from .feature_loss import FeatureLoss
from .level_matching import LevelPair
from .presets import check_preset, choose_preset, preset_for
from .without_labels import unreached

HEADER = ('loss', 'weight', 'student', 'stride', 'shape', 'teacher', 'stride', 'shape', 'projector')
"""Columns of the table of a plan."""


@dataclass(frozen=True)
class DistillPlan:
    """Plan of a distillation: what will be compared with what, as plain values without a module.

    Attributes:
        teachers: By name, what each of them is.
        teacher_plans: By name, what is recorded of each of them and how it sees the student's batch.
        losses: The losses, each with the pairs of levels that it compares.
        recording: Which modules of the student are recorded.
        schedule: When distillation acts.
        teachers_first: Whether the teachers start before the student, instead of once its features are recorded.
        untrained: Without labels, names of the student's parameters that no loss reaches; None with labels.
        device_check: Whether the first step is checked: True on accelerators, ``'always'`` on a CPU, too.
    """

    teachers: Mapping[str, str]
    teacher_plans: Mapping[str, TeacherPlan]
    losses: Sequence[tuple[LossConfig, Sequence[LevelPair]]]
    recording: Recording
    schedule: Schedule
    teachers_first: bool = False
    untrained: Optional[Sequence[str]] = None
    device_check: Union[bool, str] = True

    def __str__(self) -> str:
        return self.text([(config.name, config.module_text, FeatureLoss.rows_of(config, pairs))
                          for config, pairs in self.losses])

    def text(self, losses: Sequence[tuple[str, str, Sequence[Sequence[str]]]]) -> str:
        """Return teachers, losses, and a table of the compared levels; shapes are those of one dry-run image.

        Args:
            losses: Name of each loss, what it is, and its rows of the table (:data:`HEADER`).
        """
        lines = [f'Distillation from {name + ": " if name else ""}{teacher}' for name, teacher in self.teachers.items()]
        lines += [f'  forward pass of the teacher{" " + name if name else ""}: {each.recording.forward_text}'
                  for name, each in self.teacher_plans.items()]
        lines += [f'  images of the teacher{" " + name if name else ""}: {each.conversion.image_size}'
                  for name, each in self.teacher_plans.items() if each.conversion.image_size.differs]
        if self.schedule.interval > 1:
            lines.append(f'  teachers and losses run in one of every {self.schedule.interval} optimisation steps')
        if self.untrained is not None:
            lines.append(f'  without labels: the student runs by {self.recording.forward_text}; losses have a weight '
                         f'instead of a balance; parameters that stay as they are: {len(self.untrained)}')
        lines += [f'  layers the student starts with: {StudentInit.text(each.init_parts)}'
                  for each in self.teacher_plans.values() if each.init_parts]
        lines += [f'  {name}: {what}' for name, what, _ in losses]
        return '\n'.join([*lines, text_table([HEADER, *(row for _, _, rows in losses for row in rows)])])


def read_block(block: Any) -> DistillConfig:
    """Check a ``distill`` block as far as possible without a model; random states are left as they were.

    Raises:
        ConfigError: Or a subclass; the message names the key and quotes the value.
    """
    config = parse_distill(block)
    if config.preset is not None:
        check_preset(config.preset)
    for teacher in config.teachers.values():
        kind_of(teacher)
    for loss in config.losses or ():
        FeatureLoss.check(loss)
    return config


def plan(student: nn.Module, teachers: TeacherGroup, config: DistillConfig, keep_weights: bool = False) -> DistillPlan:
    """Find what will be compared, by one dry run of each model. Models and random states are left as they were.

    Args:
        student: The student.
        teachers: The teachers, as they were built.
        config: The checked ``distill`` block.
        keep_weights: Whether the student keeps its weights unless the config says ``init_student=True``. The same holds
            for a student that MMEngine has already initialised.

    Raises:
        ConfigError: Or a subclass, where paths or shapes do not fit the models.
    """
    preset = choose_preset(config.preset, student, teachers.values()) if config.losses is None else None
    given = config.losses or []
    for name, teacher in teachers.items():
        if preset is None and not any(loss.teacher_name == name for loss in given):
            raise ConfigError(f'{teacher.key}: no loss uses it; set from_teacher={name!r} or remove the teacher')
    sides = [side for model in (*(teacher.model for teacher in teachers.values()), student)
             for side in fixed_sides(model)] + list(SIDES)
    everything = preset is not None and preset.needs_everything
    own_paths = _paths(given, 'student') if preset is None else preset.paths(student)
    # With labels its head runs as well, and may write into what is recorded.
    forwards = FORWARDS[::-1] if config.labels else FORWARDS
    run = dry_run(student, own_paths, sides, True, everything, partly=preset is not None, forwards=forwards)
    losses: list[tuple[LossConfig, Sequence[LevelPair]]] = []
    teacher_plans: dict[str, TeacherPlan] = {}
    default = preset is not None and preset.init_student and len(teachers) == 1 and not (
        keep_weights or getattr(student, 'is_init', False))
    for name, teacher in teachers.items():
        chosen = [loss for loss in given if loss.teacher_name == name]
        paths = preset.paths(teacher.model) if preset else _paths(chosen, 'teacher')
        other = teacher.dry_run(paths, (run.image[0], *sides), everything, partly=preset is not None)
        same_image = run
        if other.image != run.image and teacher.image_size.is_same:  # each takes one size only
            with contextlib.suppress(TapError):
                same_image = dry_run(student, own_paths, (other.image[0],), True, everything)
        if preset is not None:
            chosen = preset.losses(same_image, other, name)
        matched = [(loss, FeatureLoss.match(loss, same_image, other, teacher.image_size.size)) for loss in chosen]
        losses += matched
        strides = [pair.strides[1] or 0 for _, pairs in matched for pair in pairs]
        planned = _plan_teacher(teacher, student, other, _paths(chosen, 'teacher'), run.channels, default)
        teacher_plans[name] = replace(planned, stride=max(strides, default=0) * teacher.image_size.scale)
    if not config.labels:  # there is nothing to be balanced with
        losses = [(replace(loss, balance=None), pairs) for loss, pairs in losses]
        given = [replace(loss, balance=None) for loss in given]
    configs = [loss for loss, _ in losses] if preset else given
    ordered = sorted(losses, key=lambda entry: configs.index(entry[0]))  # as the block names them
    return DistillPlan({name: f'{teacher.name} ({type(teacher.model).__name__})' for name, teacher in teachers.items()},
                       teacher_plans, ordered, Recording.from_run(run, _paths(configs, 'student')), config.schedule,
                       preset_for(student).teachers_first, None if config.labels else unreached(student, run, losses),
                       config.device_check)


def build_losses(planned: DistillPlan) -> list[FeatureLoss]:
    """Make the losses and projectors of a plan, new ones at each call.

    Random states are left as they were; the projectors' values depend on the seed alone.

    Raises:
        ConfigError: Or a subclass, where a projector or loss does not accept its arguments.
    """
    with preserved_random_state():
        torch.manual_seed(torch.initial_seed())
        return [FeatureLoss(config, pairs) for config, pairs in planned.losses]


def _plan_teacher(teacher: Teacher, student: nn.Module, run: DryRun, paths: Mapping[str, str], channels: int,
                  default: bool) -> TeacherPlan:
    """Return what is recorded of a teacher, how it sees the student's batch, and which layers it gives."""
    parts: Mapping[str, tuple[int, int]] = {}
    if teacher.gives_layers(default):
        parts = StudentInit(student, teacher.model).parts
        if not parts and teacher.gives_layers(False):  # the config says so
            raise TeacherError.at(f'{teacher.key}.init_student', True, f'the student {type(student).__name__} and the '
                                  f'teacher {type(teacher.model).__name__} have no layer of the same kind and shape '
                                  'outside of their backbones, or the student reads its weights from a file '
                                  '(`init_cfg`)')
    return TeacherPlan(Recording.from_run(run, paths), teacher.conversion_from(student, run, paths, channels),
                       parts)


def _paths(losses: Sequence[LossConfig], side: str) -> dict[str, str]:
    """Return modules of the student or the teacher that losses compare → config key of the first that names each."""
    return unique_paths((getattr(loss, side), f'{loss.key}.{side}') for loss in losses)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return columns of equal width, two spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
