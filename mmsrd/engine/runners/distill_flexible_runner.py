"""``DistillFlexibleRunner``: MMEngine's runner with strategies (FSDP and others), with a distiller in its student."""
from __future__ import annotations

from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast
from mmengine.registry import MODELS
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import Tensor, nn

from ...compat.torch_versions import TORCH
from ...distillers import CHILD, ProjectorDistiller, attach_distiller
from ...errors import ConfigError
from ...registry import RUNNERS, engine_name
from ...resume import ResumeMixin, ResumeSettings
from ...utils.dist import cpu_wrapper_cfg, init_gloo, on_cpu
from ..optimizer import with_own_settings
from .distill_mixin import DistillMixin
from .distill_runner import resume_settings_of
from .strategies import STRATEGIES, DistillFSDPStrategy


@RUNNERS.register_module()
class DistillFlexibleRunner(ResumeMixin, DistillMixin, FlexibleRunner):
    """Runner like :class:`mmsrd.DistillRunner`, for configs with a ``strategy``.

    Projectors are small, so FSDP leaves them whole in each process; their gradients are
    averaged as they come.

    Raises:
        ConfigError: The ``distill`` block or the strategy is not acceptable.
    """

    def __init__(self, *args: Any, cfg: Optional[Any] = None, **kwargs: Any) -> None:
        if on_cpu():
            init_gloo(kwargs.get('launcher', 'none'))
        super().__init__(*args, cfg=cfg, **kwargs)

    optim_wrapper: Any

    def resume_settings(self) -> ResumeSettings:
        """See :class:`mmsrd.ResumeMixin`."""
        return resume_settings_of(self.distill_config)

    def build_strategy(self, strategy: Any = None, **kwargs: Any) -> Any:
        """Build a strategy, one that distillation has been run with.

        Raises:
            ConfigError: It is another one.
        """
        if strategy is None:
            strategy = dict(type='SingleDeviceStrategy' if kwargs.get('launcher', 'none') == 'none' else 'DDPStrategy')
        name = engine_name(strategy.get('type')) if isinstance(strategy, dict) else None
        if name not in STRATEGIES:
            raise ConfigError.at('strategy.type', getattr(name, '__name__', name) or strategy,
                                 'has not been tested with distillation; use one of '
                                 f'{", ".join(STRATEGIES)}')
        if name == 'FSDPStrategy':
            if TORCH < (2, 1):
                raise ConfigError.at('strategy.type', name, 'needs PyTorch 2.1 or newer with distillation')
            if strategy.get('state_dict_cfg', 'local') == 'local':
                raise ConfigError.at('strategy.state_dict_cfg', 'local', "(MMEngine's default) writes objects that "
                                     "PyTorch can only load by running code from the file; use 'full'")
            if (strategy.get('model_wrapper') or {}).get('mixed_precision') is not None:
                raise ConfigError.at('strategy.model_wrapper.mixed_precision', strategy['model_wrapper'][
                    'mixed_precision'], "would cast the student's weights and features, but not the projectors and the "
                    "teacher, which stay in float32; use optim_wrapper=dict(type='AmpOptimWrapper', use_fsdp=True)")
        return super().build_strategy({**strategy, 'type': STRATEGIES[name]}, **kwargs)

    def prepare_distillation(self) -> None:
        """Build the student, attach the distiller, read the teachers' weights."""
        student: nn.Module = MODELS.build(self.model) if isinstance(self.model, dict) else self.model
        student = self.strategy.convert_model(student)
        if isinstance(self.strategy, DDPStrategy):
            self.strategy.sync_bn = None  # once more would replace modules that recorders are on
        self.model: Any = student
        distiller = attach_distiller(student, self.distill_config)
        self.optim_wrapper = with_own_settings(self.optim_wrapper, distiller)
        distiller.teachers.prepare(None if self._resume else self._load_from)
        self._prepare_wrapper(distiller)

    def _prepare_wrapper(self, distiller: ProjectorDistiller) -> None:
        if isinstance(self.strategy, DistillFSDPStrategy):
            wrapper = dict(self.strategy.model_wrapper or dict(type='MMFullyShardedDataParallel'))
            wrapper['ignored_modules'] = [*wrapper.get('ignored_modules', ()), CHILD]
            distiller.to(get_device())
            for tensor in (*distiller.parameters(), *distiller.buffers()):  # seeds of processes may differ
                broadcast(tensor.data)
            for parameter in distiller.parameters():
                parameter.register_post_accumulate_grad_hook(_average_gradient)  # type: ignore[no-untyped-call]
            if on_cpu():
                wrapper.setdefault('device_id', torch.device('cpu'))
            self.strategy.model_wrapper = wrapper
        elif isinstance(self.strategy, DDPStrategy) and on_cpu():
            self.strategy.model_wrapper = cpu_wrapper_cfg(dict(model_wrapper_cfg=self.strategy.model_wrapper))


def _average_gradient(parameter: Tensor) -> None:
    """Average a gradient over processes, as DistributedDataParallel does.

    Averaging a second time, when gradients accumulate, changes nothing.
    """
    assert parameter.grad is not None, 'called when a gradient has been accumulated'
    if dist.is_initialized():
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
