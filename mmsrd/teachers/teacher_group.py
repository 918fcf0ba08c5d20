"""All teachers of one student."""
from __future__ import annotations

import inspect
import logging
from typing import Any, Dict, Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..config import OwnTeacherConfig, TeacherConfig
from ..errors import ConfigError, did_you_mean
from ..registry import TEACHERS
from .teacher import Features, Teacher


def kind_of(config: TeacherConfig) -> type[Teacher]:
    """Return the class that a teacher's part of the block asks for.

    Raises:
        ConfigError: It is no kind of teacher, or does not accept an argument.
    """
    TEACHERS.import_from_location()
    known: dict[str, type[Teacher]] = TEACHERS.module_dict
    kind: Any = config.kind
    if isinstance(kind, str):
        kind = TEACHERS.get(kind) if all(part.isidentifier() for part in kind.split('.')) else None
    if not inspect.isclass(kind) or not issubclass(kind, Teacher):
        raise ConfigError.at(f'{config.key}.type', config.kind, 'is not a registered kind of teacher'
                             f'{did_you_mean(str(config.kind), known)}; there are {", ".join(known)}')
    if isinstance(config, OwnTeacherConfig):
        kind.check_config(config)
    return kind


class TeacherGroup(Dict[str, Teacher]):
    """Teachers by name; a single one has the empty name.

    Attributes:
        keep_originals: Whether teachers keep what is needed to undo their speed-ups.
    """

    keep_originals = False

    @classmethod
    def build(cls, configs: Mapping[str, TeacherConfig], student: nn.Module) -> TeacherGroup:
        """Build teachers, without their weights.

        Args:
            configs: Their parts of the ``distill`` block, by name.
            student: The student, for teachers that average it.

        Raises:
            TeacherError: The config of one cannot be read, or its model not be built.
        """
        return cls((name, kind_of(config).from_config(config, student)) for name, config in configs.items())

    @property
    def only(self) -> Teacher:
        """The one teacher.

        Raises:
            LookupError: There are several.
        """
        if len(self) > 1:
            raise LookupError(f'there are {len(self)} teachers; they are in `teachers` by name')
        return next(iter(self.values()))

    @property
    def averages(self) -> dict[str, Teacher]:
        """Teachers that average the student and are still at work, by name."""
        return {name: teacher for name, teacher in self.items() if teacher.is_average and not teacher.released}

    @property
    def released(self) -> bool:
        """Return whether distillation has ended, and the teachers' memory been given back."""
        return any(teacher.released for teacher in self.values())

    def prepare(self, start: Any = None) -> None:
        """Read the weights and get ready to run, when training is about to start.

        Args:
            start: Checkpoint that the student starts from (``load_from``), if any; None by default.

        Raises:
            CheckpointError: The weights of one cannot be read, or are of another architecture.
        """
        for teacher in self.values():
            teacher.prepare(self.keep_originals)
            if start is not None and start == teacher.describe()['checkpoint']:
                print_log(f'{teacher.key}.checkpoint = {start!r} is also load_from: teacher and student start with '
                          'the same weights', logger='current', level=logging.WARNING)

    def forget_originals(self) -> None:
        """Free what is needed to undo the speed-ups."""
        for teacher in self.values():
            teacher.forget_original()

    def init_student(self, loads: bool = False) -> None:
        """Give the student the layers that it is to start with, once it is initialised; after :meth:`prepare`.

        Args:
            loads: Whether it reads a checkpoint afterwards, as the log is to say; False by default.
        """
        for teacher in self.values():
            if teacher.student_init is not None:
                teacher.student_init.apply()
                print_log(f'The student starts with these layers of the teacher: {teacher.student_init}'
                          + ('; a checkpoint that is loaded next replaces what it has' if loads else ''),
                          logger='current')
                teacher.student_init = None

    def update_ema(self, student: nn.Module) -> None:
        """Let teachers that average the student take its new weights."""
        for teacher in self.averages.values():
            teacher.update(student)

    def forward_async(self, inputs: Tensor, data_samples: Sequence[Any] | None,
                      student_dtype: torch.dtype | None) -> dict[str, Features]:
        """Features by name of the teacher; see :meth:`Teacher.forward_async`.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.
            student_dtype: Autocast dtype of the student; None for none.
        """
        return {name: teacher.forward_async(inputs, data_samples, student_dtype) for name, teacher in self.items()}

    def synchronize(self) -> None:
        """Let what is queued on the device from now on wait for :meth:`forward_async`."""
        for teacher in self.values():
            teacher.synchronize()

    def release(self) -> None:
        """Give all memory back, for good."""
        for teacher in self.values():
            teacher.release()
