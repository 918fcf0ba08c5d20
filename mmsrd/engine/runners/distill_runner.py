"""``DistillRunner``: MMEngine's runner that distils, and is fit for long runs."""
from __future__ import annotations

from mmengine.runner import Runner

from ...config import DistillConfig
from ...registry import RUNNERS
from ...resume import ResumeMixin, ResumeSettings
from ..hooks.distill_hook import CHECKPOINT_KEY
from .distill_mixin import DistillMixin


def resume_settings_of(config: DistillConfig) -> ResumeSettings:
    """Return what the ``distill`` block says of resume and preemption."""
    return ResumeSettings(config.exact_resume, config.preemption, (CHECKPOINT_KEY, 'resume'))


@RUNNERS.register_module()
class DistillRunner(ResumeMixin, DistillMixin, Runner):
    """Chosen by ``runner_type='mmsrd.DistillRunner'``: :class:`mmsrd.DistillMixin` and :class:`mmsrd.ResumeMixin`.

    Raises:
        ConfigError: Or a subclass, before the work directory is touched where the block alone shows the mistake, else
            before training starts.
    """

    def resume_settings(self) -> ResumeSettings:
        """See :class:`mmsrd.ResumeMixin`."""
        return resume_settings_of(self.distill_config)
