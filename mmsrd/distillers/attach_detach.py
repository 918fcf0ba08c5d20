"""Attach a distiller to a student, and detach it again."""
from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping, cast

import torch
from mmengine.logging import print_log
from torch import nn

from ..compat.torch_versions import register_final_hook, register_state_dict_hook
from ..config import DistillConfig
from ..errors import ConfigError
from ..recorders import find_modules, trained_part
from ..teachers import TeacherGroup
from ..teachers.class_names import names_in
from ..utils.dist import unwrapped
from .distiller import ProjectorDistiller
from .plan import plan, read_block
from .shared_classes import take_classes
from .without_labels import UnlabelledForward

CHILD = 'distiller'
"""Name of the distiller in the student."""


def attach(model: nn.Module, distill_cfg: Mapping[str, Any]) -> ProjectorDistiller:
    """Add distillation to a built model, for a notebook or a loop without a runner.

    Afterwards ``model(inputs=..., data_samples=..., mode='loss')`` returns the
    ``loss_srd_*`` entries too, and ``model.parameters()`` has the projectors'
    parameters: build the optimizer after this call. The model keeps its weights, unless the config says
    ``init_student=True``: then call ``model.init_weights()`` before. A teacher that averages the student
    is updated by ``model.distiller.update_ema(model)`` after each optimisation step. Before the distiller's
    ``state_dict`` is saved, call ``model.distiller.update_balances()``: it adds the last step's gradient norms.

    Args:
        model: A detector or classifier in the calling convention of MMEngine.
        distill_cfg: The ``distill`` block of a config.

    Returns:
        ProjectorDistiller: The distiller, also at ``model.distiller``.

    Raises:
        ConfigError: Or a subclass, if the block is wrong or does not fit the models, or the model is wrapped already.
        CheckpointError: The teacher's weights cannot be loaded.

    Example:
        >>> import mmsrd, torch
        >>> from mmengine.model import BaseModel
        >>> class Student(BaseModel):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.backbone = torch.nn.Conv2d(3, width, 3)
        ...     def forward(self, inputs, data_samples=None, mode='tensor'):
        ...         feature = self.backbone(inputs)
        ...         return dict(loss=feature.mean()) if mode == 'loss' else feature
        >>> student = Student(8)
        >>> distiller = mmsrd.attach(student, dict(
        ...     teacher=dict(ema=dict(momentum=0.01)), losses=dict(map=dict(student='backbone', teacher='backbone'))))
        >>> sorted(student(torch.randn(2, 3, 8, 8), mode='loss'))
        ['loss', 'loss_srd_map', 'srd_alignment_map']
        >>> mmsrd.detach(student)
        >>> sorted(student(torch.randn(2, 3, 8, 8), mode='loss'))
        ['loss']
    """
    _refuse_wrapped(model, 'attach')
    config = read_block(distill_cfg)
    if config.schedule.by_epoch:
        raise ConfigError('distill.schedule.by_epoch = True: only a runner counts epochs; set it to False and give '
                          '`start` and `end` in iterations')
    decay = config.schedule.decay
    if decay is not None and config.schedule.end is None:
        raise ConfigError.at('distill.schedule.decay', decay, 'needs an `end`: without a runner the length of the '
                             'training is unknown')
    distiller = attach_distiller(model, config, keep_weights=True)
    try:
        distiller.teachers.prepare()
        take_classes(distiller, model, names_in(getattr(model, 'dataset_meta', None)))
        distiller.teachers.init_student()
    except Exception:
        detach(model)
        raise
    return distiller


def attach_distiller(student: nn.Module, config: DistillConfig, keep_weights: bool = False) -> ProjectorDistiller:
    """Attach a distiller whose teachers have no weights yet: see :meth:`mmsrd.teachers.TeacherGroup.prepare`.

    Args:
        student: The student.
        config: The checked ``distill`` block.
        keep_weights: See :func:`mmsrd.distillers.plan.plan`.

    Raises:
        ConfigError: Or a subclass, where the block does not fit the models.
    """
    if hasattr(student, CHILD):
        raise ConfigError(f'{type(student).__name__} already has a child {CHILD!r}; call mmsrd.detach(model) first')
    if not any(p.requires_grad for p in student.parameters()):
        raise ConfigError(f'{type(student).__name__} has no trainable parameters: the whole student is frozen')
    dtypes = {p.dtype for p in student.parameters() if p.requires_grad and p.is_floating_point()} - {torch.float32}
    if dtypes:
        raise ConfigError(f'{type(student).__name__} has trainable parameters of '
                          f'{", ".join(sorted(map(str, dtypes)))}; a student is trained in float32, or with autocast')
    teachers = TeacherGroup.build(config.teachers, student)
    planned = plan(student, teachers, config, keep_weights)
    distiller = ProjectorDistiller(planned)
    distiller.connect(student, teachers)
    print_log(distiller.describe(), logger='current')
    student.add_module(CHILD, distiller.to(next(student.parameters()).device))
    distiller.handles = [
        student.register_forward_pre_hook(distiller.before_student, with_kwargs=True),
        *(module.register_forward_hook(distiller.after_recorded)
          for path, key in distiller.recorders.keys.items() for module in find_modules(student, path, key)),
        register_final_hook(student, distiller.after_student),
        register_state_dict_hook(student, _hide_state),
        student.register_load_state_dict_post_hook(_ignore_missing)]  # type: ignore[no-untyped-call]
    if planned.untrained is not None:
        distiller.handles.append(UnlabelledForward(student, planned.recording.forward, planned.untrained))
    backbone = getattr(trained_part(student)[1], 'backbone', None)
    if isinstance(backbone, nn.Module):
        distiller.handles.append(backbone.register_forward_pre_hook(distiller.before_backbone))
    return distiller


@contextlib.contextmanager
def set_aside(student: nn.Module) -> Iterator[ProjectorDistiller]:
    """Context in which a student is initialised: an ``init_cfg`` of the whole model would reach the projectors, too.

    They would be overwritten, and the random numbers for it be missing from the student's.

    Args:
        student: A student with a distiller.
    """
    distiller = cast(ProjectorDistiller, student._modules.pop(CHILD))
    try:
        yield distiller
    finally:
        student.add_module(CHILD, distiller)


def detach(model: nn.Module) -> None:
    """Undo :func:`attach`: the model is as before, except for the weights that it has learnt since.

    Args:
        model: A model with a distiller.

    Raises:
        ConfigError: It has none, or is wrapped: DistributedDataParallel would miss the gradients of the projectors.

    Example:
        :func:`attach` shows how a model comes to have one.

        >>> import mmsrd, torch
        >>> mmsrd.detach(torch.nn.Linear(1, 1))
        Traceback (most recent call last):
        ...
        mmsrd.errors.ConfigError: Linear has no distiller to detach
    """
    _refuse_wrapped(model, 'detach')
    distiller = getattr(model, CHILD, None)
    if not isinstance(distiller, ProjectorDistiller):
        raise ConfigError(f'{type(model).__name__} has no distiller to detach')
    for handle in distiller.handles:
        handle.remove()
    distiller.recorders.remove()
    delattr(model, CHILD)


def _refuse_wrapped(model: nn.Module, function: str) -> None:
    if unwrapped(model) is not model:
        raise ConfigError(f'mmsrd.{function}: the model is within {type(model).__name__}; give {function} the model '
                          'itself, and wrap or compile it afterwards')


def _hide_state(student: nn.Module, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """State-dict hook: the student's ``state_dict`` has the student's keys, whoever asks for it."""
    for name in [k for k in state if k.startswith(f'{prefix}{CHILD}.')]:
        del state[name]
    metadata = getattr(state, '_metadata', {})
    for name in [k for k in metadata if f'{k}.'.startswith(f'{prefix}{CHILD}.')]:
        del metadata[name]


def _ignore_missing(student: nn.Module, incompatible: Any) -> None:
    """Load hook: a student checkpoint has no projectors, and that is as it should be."""
    missing = incompatible.missing_keys
    missing[:] = [key for key in missing if f'.{CHILD}.' not in f'.{key}']
