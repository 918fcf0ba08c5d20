"""The student with the teacher: the student's config and one block."""
_base_ = './fcos_digits_student.py'
runner_type = 'mmsrd.DistillRunner'
distill = dict(teacher=dict(
    config='{{ fileDirname }}/fcos_digits_teacher.py', checkpoint='work_dirs/quickstart/teacher/iter_600.pth'))
