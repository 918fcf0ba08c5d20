"""``Preset``: chooses losses for models where the config names none."""
from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Iterable

from mmengine.logging import print_log
from torch import nn

from ...config import LossConfig
from ...config.checks import ROOT
from ...config.loss_config import parse_loss
from ...recorders import DryRun, trained_part

KEY = f'{ROOT}.preset'
SRD: dict[str, Any] = dict(type='SRDLoss', alpha=4.0, tokens='patch')


class Preset(ABC):
    """Chooses losses from what dry runs of student and teacher have shown.

    Attributes:
        name: As the config names it.
        needs_everything: Whether the dry runs have to look at all modules.
        init_student: Whether the student starts with the layers of neck and heads that it has in common with the
            teacher, where the config does not say.
    """

    name: str
    needs_everything = False
    init_student = False

    @abstractmethod
    def paths(self, model: nn.Module) -> dict[str, str]:
        """Modules of ``model`` that a dry run should reach → config key, for messages."""

    @abstractmethod
    def blocks(self, student: DryRun, teacher: DryRun) -> dict[str, dict[str, Any]]:
        """The chosen losses by name, as a config would have them.

        Raises:
            ConfigError: The models have no module that could be compared.
        """

    def losses(self, student: DryRun, teacher: DryRun, teacher_name: str = '') -> list[LossConfig]:
        """The chosen losses.

        Args:
            student: Dry run of the student.
            teacher: Dry run of the teacher.
            teacher_name: Name of the teacher where there are several; starts the names of the losses.

        Raises:
            ConfigError: The models have no module that could be compared.
        """
        prefix = f'{teacher_name}_' if teacher_name else ''
        return [replace(parse_loss(prefix + name, block, [teacher_name]), preset=self.name)
                for name, block in self.blocks(student, teacher).items()]

    def warn(self, message: str) -> None:
        """Say what is left out."""
        print_log(f'Preset {self.name}: {message}', logger='current', level=logging.WARNING)


def parts_of(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Paths of the parts of these names that the trained model has."""
    prefix, inner = trained_part(model)
    return [prefix + name for name in names if isinstance(getattr(inner, name, None), nn.Module)]
