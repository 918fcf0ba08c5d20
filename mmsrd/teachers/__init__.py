"""Teachers: built, given weights, fed the student's batch, run as far as needed; outside of the module tree."""
from .ema_teacher import EMATeacher
from .pretrained_teacher import PretrainedTeacher
from .student_init import StudentInit
from .teacher import Features, Teacher, TeacherPlan
from .teacher_group import TeacherGroup, kind_of

__all__ = ['EMATeacher', 'Features', 'PretrainedTeacher', 'StudentInit', 'Teacher', 'TeacherGroup', 'TeacherPlan',
           'kind_of']
