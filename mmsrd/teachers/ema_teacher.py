"""A teacher that is a moving average of the student itself."""
from __future__ import annotations

from typing import Any

import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from ..config import EMATeacherConfig
from .base_teacher import BaseTeacher
from .speedup import AppliedSpeedups


class EMATeacher(BaseTeacher):
    """Self-distillation: the teacher is an average of the student.

    Its weights are part of the training state, so they are saved for a resume, unlike
    those of a trained teacher.

    Args:
        config: Its part of the ``distill`` block.
        student: The student before anything is attached to it.

    Attributes:
        started: Whether it has taken the student's weights, or those of a checkpoint.
    """

    def __init__(self, config: EMATeacherConfig, student: nn.Module) -> None:
        # Batch statistics are averaged with the weights that they belong to.
        self.average = ExponentialMovingAverage(student, config.momentum, update_buffers=True)
        super().__init__(self.average.module, config)
        self.started = False

    def move_to(self, device: torch.device) -> None:
        """Move the average to ``device``, where it is not there yet."""
        if self._device != device:
            self.average.to(device)
            # It keeps references to its tensors, which a move replaces.
            self.average.avg_parameters = self.average.module.state_dict()
            self._device = device

    def _apply_speedups(self, device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
        """Nothing: its weights go on changing."""
        return AppliedSpeedups()

    def release(self) -> None:
        """As :meth:`BaseTeacher.release`; the average holds on to its tensors beside the model's."""
        self.average.avg_parameters = {}
        super().release()

    def update(self, student: nn.Module) -> None:
        """Take the student's weights the first time, a share of them each time after it; none once released."""
        if self.released:
            return
        self.move_to(next(student.parameters()).device)
        self.average.update_parameters(student)
        self.started = True

    def state_dict(self) -> dict[str, Any]:
        """Weights and number of updates, for a checkpoint."""
        return {name: value.cpu() for name, value in self.average.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.average.load_state_dict(state)
        self.started = True
