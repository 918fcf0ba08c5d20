"""Hooks of MMEngine that distil or look at distillation."""
from .distill_hook import DistillHook
from .distill_report_hook import DistillReportHook
from .no_effect_hook import NoEffectHook
from .projector_diagnostics_hook import ProjectorDiagnosticsHook
from .teacher_check_hook import TeacherCheckHook

__all__ = ['DistillHook', 'DistillReportHook', 'NoEffectHook', 'ProjectorDiagnosticsHook', 'TeacherCheckHook']
