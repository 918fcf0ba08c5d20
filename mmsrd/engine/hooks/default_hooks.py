"""Hooks that both runners register by themselves."""
from __future__ import annotations

from dataclasses import asdict

from mmengine.runner import FlexibleRunner, Runner

from ...config.distill_config import DistillConfig
from .distill_hook import DistillHook
from .distill_report_hook import DistillReportHook
from .exact_resume_hook import ExactResumeHook
from .no_effect_hook import NoEffectHook
from .preemption_hook import PreemptionHook
from .teacher_check_hook import TeacherCheckHook


def register_distill_hooks(runner: Runner | FlexibleRunner, config: DistillConfig) -> None:
    """Register what distillation needs and reports, after the hooks of the config."""
    for hook in (DistillHook, TeacherCheckHook, NoEffectHook):
        runner.register_hook(hook())
    if config.exact_resume:
        runner.register_hook(ExactResumeHook())
    for settings, kind in ((config.report, DistillReportHook), (config.preemption, PreemptionHook)):
        if settings is not None and not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind(**asdict(settings)))
