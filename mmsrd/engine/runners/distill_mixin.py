"""``DistillMixin``: distillation in any runner of MMEngine."""
from __future__ import annotations

from dataclasses import asdict
from typing import Any, Optional, cast

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, convert_sync_batchnorm, revert_sync_batchnorm
from torch import nn

from ...distillers import attach_distiller, read_block, set_aside
from ...errors import ConfigError
from ...registry import engine_name
from ...utils.dist import cpu_wrapper_cfg, init_gloo, on_cpu, unwrapped
from ...utils.hooks import register_missing
from ..hooks import DistillHook, DistillReportHook, NoEffectHook, TeacherCheckHook
from ..hooks.distill_hook import distiller_of, tell_classes
from ..optimizer import tell_untrained, with_own_settings


class DistillMixin:
    """Builds the student as the runner would, then attaches a distiller to it.

    Stands before a runner among the bases; that runner stays as it is. The config's ``distill`` block is read when the
    runner is made, and the teacher's architecture is built with the student. Its weights are read by :meth:`train`, so
    a config can be tested without them.

    Raises:
        ConfigError: Or a subclass, before the work directory is touched where the block alone shows the mistake, else
            before training starts.

    Example:
        A runner of your own, which ``runner_type='MyRunner'`` names once it is registered in MMEngine's ``RUNNERS``:

        >>> from mmengine.runner import Runner
        >>> from mmsrd import DistillMixin
        >>> class TheirRunner(Runner):
        ...     pass
        >>> class MyRunner(DistillMixin, TheirRunner):
        ...     pass

        With :class:`mmsrd.ResumeMixin` before it, it also resumes exactly, as :class:`mmsrd.DistillRunner` does.
    """

    cfg: Any
    model: nn.Module
    distributed: bool
    launcher: str
    _load_from: Any
    _resume: Any

    def __init__(self, *args: Any, cfg: Optional[Any] = None, **kwargs: Any) -> None:
        self.distill_config = read_block(None if cfg is None else cfg.get('distill'))
        super().__init__(*args, cfg=cfg, **kwargs)  # type: ignore[call-arg]

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set up the environment; several processes on a machine without accelerators talk through gloo."""
        if on_cpu():
            init_gloo(self.launcher)
        super().setup_env(env_cfg)  # type: ignore[misc]

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the student and attach the distiller, before the model is wrapped for distributed training."""
        student: nn.Module = super().build_model(model)  # type: ignore[misc]
        inner = unwrapped(student)
        if isinstance(inner, BaseTTAModel):
            return student  # of a test, which has the student inside
        # MMEngine replaces SyncBN modules when it wraps the model; a recorder on one would be lost then.
        if not self.distributed:
            inner = revert_sync_batchnorm(inner)
        elif self.cfg.get('sync_bn') is not None:
            inner = convert_sync_batchnorm(inner, self.cfg.sync_bn)
        attach_distiller(inner, self.distill_config)
        return student

    def wrap_model(self, model_wrapper_cfg: Optional[dict[str, Any]], model: nn.Module) -> nn.Module:
        """Wrap the model, without ``device_ids`` on a CPU-only machine, and without converting SyncBN again."""
        if self.distributed and on_cpu():
            model_wrapper_cfg = cpu_wrapper_cfg(self.cfg)
        converted = self.cfg.pop('sync_bn', None)  # by build_model; recorders are on the modules that it has made
        try:
            wrapped: nn.Module = super().wrap_model(model_wrapper_cfg, model)  # type: ignore[misc]
        finally:
            if converted is not None:
                self.cfg.sync_bn = converted
        return wrapped

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer wrapper, with the settings of a config's ``custom_keys`` for the student alone.

        Raises:
            ConfigError: ``AmpOptimWrapper`` on a machine without accelerators.
        """
        kind = engine_name(optim_wrapper.get('type')) if isinstance(optim_wrapper, dict) else None
        if kind == 'AmpOptimWrapper' and on_cpu():
            raise ConfigError.at('optim_wrapper.type', kind, 'needs a GPU, and PyTorch sees none; leave --amp out, or '
                                 'check the driver and CUDA_VISIBLE_DEVICES')
        distiller = distiller_of(cast(Any, self))
        built = super().build_optim_wrapper(with_own_settings(optim_wrapper, distiller))  # type: ignore[misc]
        tell_untrained(built, distiller)
        return built

    def _init_model_weights(self) -> None:
        # Not in an init_weights of the distiller: DETR, for instance, initialises more weights after its children's.
        with set_aside(unwrapped(self.model)) as distiller:
            super()._init_model_weights()  # type: ignore[misc]
        distiller.teachers.init_student(self._resume or self._load_from is not None)

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """Register the config's hooks, and what distillation needs and reports, unless the config has it itself."""
        super().register_hooks(default_hooks, custom_hooks)  # type: ignore[misc]
        report = self.distill_config.report
        wanted: list[Hook] = [DistillHook(), TeacherCheckHook(), NoEffectHook()]
        wanted += [] if report is None else [DistillReportHook(**asdict(report))]
        register_missing(self, wanted)

    def build_train_loop(self, loop: Any) -> Any:
        """Build the loop, then compare the classes of the student's data set with those of the teachers."""
        built = super().build_train_loop(loop)  # type: ignore[misc]
        tell_classes(cast(Any, self), getattr(built.dataloader, 'dataset', None))
        return built

    def train(self) -> nn.Module:
        """Read the teachers' weights, then train."""
        self.prepare_distillation()
        trained: nn.Module = super().train()  # type: ignore[misc]
        return trained

    def prepare_distillation(self) -> None:
        """Read the teachers' weights, when training is about to start."""
        distiller_of(cast(Any, self)).teachers.prepare(None if self._resume else self._load_from)
