"""Long runs: atomic checkpoints, exact resumes, preemption. It knows nothing of distillation."""
from .exact_resume_hook import ExactResumeHook
from .preemption_hook import PreemptionHook
from .resume_mixin import ResumeMixin, ResumeSettings

__all__ = ['ExactResumeHook', 'PreemptionHook', 'ResumeMixin', 'ResumeSettings']
