"""Hooks of MMEngine that distil or look at distillation."""
from .distill_hook import DistillHook
from .no_effect_hook import NoEffectHook
from .projector_diagnostics_hook import ProjectorDiagnosticsHook
from .teacher_check_hook import TeacherCheckHook

DISTILL_HOOKS = DistillHook, TeacherCheckHook, NoEffectHook
"""What both runners register by themselves."""

__all__ = ['DISTILL_HOOKS', 'DistillHook', 'NoEffectHook', 'ProjectorDiagnosticsHook', 'TeacherCheckHook']
