"""Hooks that both runners register by themselves."""
from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner, Runner

from ...config.distill_config import DistillConfig
from .distill_hook import DistillHook
from .distill_report_hook import DistillReportHook
from .exact_resume_hook import ExactResumeHook
from .no_effect_hook import NoEffectHook
from .preemption_hook import PreemptionHook
from .teacher_check_hook import TeacherCheckHook


def register_distill_hooks(runner: Runner | FlexibleRunner, config: DistillConfig) -> None:
    """Register what distillation needs and reports, after the hooks of the config; none that the config has itself."""
    wanted: list[tuple[type[Hook], dict[str, Any]]] = [(DistillHook, {}), (TeacherCheckHook, {}), (NoEffectHook, {})]
    wanted += [(ExactResumeHook, {})] if config.exact_resume else []
    wanted += [(kind, asdict(settings)) for settings, kind in (
        (config.report, DistillReportHook), (config.preemption, PreemptionHook)) if settings is not None]
    for kind, arguments in wanted:
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind(**arguments))
