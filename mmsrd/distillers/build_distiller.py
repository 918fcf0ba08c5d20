"""From a ``distill`` block to a distiller: losses, teachers, dry runs, level pairs, projectors."""
from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Sequence

import torch
from mmengine.logging import print_log
from torch import nn

from ..config import DistillConfig, parse_distill
from ..errors import ConfigError, TapError, TeacherError
from ..recorders import SIDES, DryRun, RecorderManager, dry_run, fixed_sides, unique_paths
from ..teachers import StudentInit, TeacherGroup
from ..utils.random_state import preserved_random_state
from .feature_loss import FeatureLoss
from .presets import Preset, choose_preset, fitting_preset
from .projector_distiller import ProjectorDistiller
from .summary import summary


@dataclass(frozen=True)
class DistillSetup:
    """A ``distill`` block that has been checked as far as possible without a model. It holds no module.

    Attributes:
        config: The block.
    """

    config: DistillConfig

    @classmethod
    def of(cls, block: Any) -> DistillSetup:
        """Check a block; random states are left as they were.

        Raises:
            ConfigError: And its kinds; the message names the key and quotes the value.
        """
        setup = cls(parse_distill(block))
        setup._losses()  # their arguments are checked where they are built
        return setup

    def _losses(self) -> list[FeatureLoss]:
        """The losses of the block, new ones at each call; none where a preset is to choose them."""
        with preserved_random_state():  # losses may have weights of their own
            return [FeatureLoss(loss) for loss in self.config.losses or ()]

    def build(self, student: nn.Module, keep_weights: bool = False) -> ProjectorDistiller:
        """Build teachers, match levels, and build projectors of the widths found; may be called for several students.

        Random states are left as they were; the projectors' values depend on the
        seed alone. The student has recorders afterwards, and nothing else.

        Args:
            student: The student.
            keep_weights: Whether the student keeps its weights unless the config says ``init_student=True``, as one
                does that MMEngine has initialised before.

        Raises:
            ConfigError: And its kinds, where paths or shapes do not fit the models.
        """
        teachers = TeacherGroup.build(self.config.teachers, student)
        preset = None if self.config.losses is not None else choose_preset(
            self.config.preset, student, (teacher.model for teacher in teachers.values()))
        run, losses = _match(student, teachers, preset, self._losses())
        initialised = keep_weights or getattr(student, 'is_init', False)
        _plan_student_init(student, teachers, preset is not None and preset.init_student and not initialised)
        with preserved_random_state():
            torch.manual_seed(torch.initial_seed())
            for loss in losses:
                loss.build_projectors()
        paths = _paths(losses, 'student')
        recorders = RecorderManager(student, paths, [path for path in paths if run.is_overwritten(path)])
        num_calls = {path: run.num_calls(path) for path in paths}
        # What a classifier does after its last feature is too little for a teacher to run beside.
        distiller = ProjectorDistiller(losses, teachers, recorders, num_calls, self.config.schedule, run.channels,
                                       teachers_first=fitting_preset(student) == 'classification')
        print_log(summary(distiller), logger='current')
        return distiller


def _paths(losses: Sequence[FeatureLoss], side: str) -> dict[str, str]:
    """Modules of the student or the teacher that losses compare → config key of the first that names each."""
    return unique_paths((getattr(loss.config, side), f'{loss.config.key}.{side}') for loss in losses)


def _plan_student_init(student: nn.Module, teachers: TeacherGroup, default: bool) -> None:
    """Find the layers that the student will start with, where a teacher is to give some.

    Args:
        student: The student.
        teachers: The teachers, as they were built.
        default: Whether a single teacher with weights gives some where the config does not say.

    Raises:
        TeacherError: The config says so, and no layer fits.
    """
    for teacher in teachers.values():
        asked = teacher.config.init_student
        by_default = default and len(teachers) == 1 and teacher.config.checkpoint is not None
        if not (by_default if asked is None else asked):
            continue
        init = StudentInit(student, teacher.model)
        if init.parts:
            teacher.student_init = init
        elif asked:
            raise TeacherError.at(f'{teacher.key}.init_student', asked, f'the student {type(student).__name__} and the '
                                  f'teacher {type(teacher.model).__name__} have no layer of the same kind and shape '
                                  'outside of their backbones')


def _match(student: nn.Module, teachers: TeacherGroup, preset: Preset | None,
           losses: list[FeatureLoss]) -> tuple[DryRun, list[FeatureLoss]]:
    """Dry runs of all models, one each, and losses whose levels are paired.

    Returns:
        tuple: The student's dry run, and the losses: those given, or the preset's.
    """
    for name, teacher in teachers.items():
        if preset is None and not any(loss.config.teacher_name == name for loss in losses):
            raise ConfigError(f'{teacher.key}: no loss uses it; set from_teacher={name!r} or remove the teacher')
    sides = [side for model in (*(teacher.model for teacher in teachers.values()), student)
             for side in fixed_sides(model)] + list(SIDES)
    everything = preset is not None and preset.needs_everything
    own_paths = _paths(losses, 'student') if preset is None else preset.paths(student)
    run = dry_run(student, own_paths, sides, True, everything, partly=preset is not None)
    chosen = list(losses)
    for name, teacher in teachers.items():
        own = [loss for loss in losses if loss.config.teacher_name == name]
        paths = preset.paths(teacher.model) if preset else _paths(own, 'teacher')
        other = teacher.dry_run(paths, (run.image[0], *sides), everything, partly=preset is not None)
        same_image = run
        if other.image != run.image:  # each takes one size only, or the teacher takes another
            with contextlib.suppress(TapError):
                same_image = dry_run(student, own_paths, (other.image[0],), True, everything)
        if preset is not None:
            own = [FeatureLoss(config) for config in preset.losses(same_image, other, name)]
            chosen += own
        for loss in own:
            loss.match(same_image, other)
        teacher.plan(other, _paths(own, 'teacher'), student, run.channels)
    return run, chosen
