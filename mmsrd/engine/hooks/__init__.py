"""Hooks of MMEngine that distil or look at distillation."""
from .default_hooks import register_distill_hooks
from .distill_hook import DistillHook
from .distill_report_hook import DistillReportHook
from .exact_resume_hook import ExactResumeHook
from .no_effect_hook import NoEffectHook
from .preemption_hook import PreemptionHook
from .projector_diagnostics_hook import ProjectorDiagnosticsHook
from .teacher_check_hook import TeacherCheckHook

__all__ = ['DistillHook', 'DistillReportHook', 'ExactResumeHook', 'NoEffectHook', 'PreemptionHook',
           'ProjectorDiagnosticsHook', 'TeacherCheckHook', 'register_distill_hooks']
