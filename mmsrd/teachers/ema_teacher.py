"""A teacher that is a moving average of the student itself."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..config import EMATeacherConfig, InferenceConfig
from ..registry import TEACHERS
from .speedup import AppliedSpeedups, stores_weights
from .teacher import Teacher
from .weight_average import WeightAverage


@TEACHERS.register_module()
class EMATeacher(Teacher):
    """Self-distillation: the teacher is an average of the student.

    Its weights are part of the training state, so they are saved for a resume, unlike
    those of a trained teacher.

    Args:
        config: Its part of the ``distill`` block.
        student: The student before anything is attached to it.

    Attributes:
        started: Whether it has taken the student's weights, or those of a checkpoint.
    """

    is_average = True

    def __init__(self, config: EMATeacherConfig, student: nn.Module) -> None:
        # Batch statistics are averaged with the weights that they belong to.
        self.average = WeightAverage(student, config.momentum)
        super().__init__(self.average.module, config.key, config.name)
        self.started = False

    @classmethod
    def from_config(cls, config: EMATeacherConfig, student: nn.Module) -> EMATeacher:
        """See :class:`Teacher`."""
        return cls(config, student)

    def move_to(self, device: torch.device) -> None:
        """Move the average to ``device``, where it is not there yet."""
        if self._device != device:
            self.average.move_to(device)
            self._device = device

    def _apply_speedups(self, device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
        """Keep, on CUDA, a copy of its weights in the student's precision; they go on changing, so no more."""
        if dtype is None or not stores_weights(self.inference, device):
            return AppliedSpeedups()
        self.average.store(dtype)
        return AppliedSpeedups(stored_dtype=dtype)

    def speed_up_by(self, inference: InferenceConfig, offloads: bool = False) -> None:
        """See :class:`Teacher`."""
        self.average.store(torch.float32)
        self.inference, self._speedups = inference, None

    def release(self) -> None:
        """Release the model; the average holds on to its tensors beside the model's."""
        self.average.release()
        super().release()

    def begin(self, student: nn.Module) -> None:
        """See :class:`Teacher`."""
        if not self.started:
            self.update(student)

    def update(self, student: nn.Module) -> None:
        """Take the student's weights the first time, a share of them each time after it; none once released."""
        if self.released:
            return
        self.move_to(next(student.parameters()).device)
        self.average.update_parameters(student)
        self.started = True

    def state(self) -> dict[str, Any]:
        """Return the weights and the number of updates."""
        return dict(self.average.state())

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.average.load(state)
        self.started = True
