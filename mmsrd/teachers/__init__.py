"""Teachers: built, given weights, fed the student's batch, run as far as needed; outside of the module tree."""
from .base_teacher import BaseTeacher, Features
from .ema_teacher import EMATeacher
from .pretrained_teacher import PretrainedTeacher
from .student_init import StudentInit
from .teacher_group import TeacherGroup

__all__ = ['BaseTeacher', 'EMATeacher', 'Features', 'PretrainedTeacher', 'StudentInit', 'TeacherGroup']
