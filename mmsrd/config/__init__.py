"""The ``distill`` block of a config: dataclasses, and the checks that fill them."""
from .distill_config import DistillConfig, parse_distill
from .loss_config import LossConfig
from .schedule import Progress, Schedule
from .teacher_config import (
    PLAIN,
    EMATeacherConfig,
    InferenceConfig,
    OwnTeacherConfig,
    PretrainedTeacherConfig,
    TeacherConfig,
)

__all__ = ['PLAIN', 'DistillConfig', 'EMATeacherConfig', 'InferenceConfig', 'LossConfig', 'OwnTeacherConfig',
           'PretrainedTeacherConfig', 'Progress', 'Schedule', 'TeacherConfig', 'parse_distill']
