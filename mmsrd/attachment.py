"""Attach a distiller to a student: tap both models, build the projectors, hook in."""
from __future__ import annotations

import contextlib
import logging
from typing import Any, Mapping

import torch
from mmengine.logging import print_log
from torch import nn

from .config import DistillConfig, parse
from .config_losses import LossConfig
from .distiller import CHILD, ProjectorDistiller
from .ema_teacher import EmaTeacher
from .errors import ConfigError, TapError
from .matching import LevelPair, match_levels
from .plan import describe
from .presets import preset_losses
from .probe import SIDES, Probe, probe, trained_part
from .rng import preserved_rng
from .taps import TapSet, unique_paths
from .teacher import Teacher


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


def build_teachers(config: DistillConfig, student: nn.Module) -> dict[str, Teacher]:
    """The teachers of ``config`` by name, without their weights.

    Raises:
        TeacherError: The config of one cannot be read or built.
    """
    teachers: dict[str, Teacher] = {}
    for name, teacher in config.teachers.items():
        if teacher.momentum is not None:
            teachers[name] = EmaTeacher(student, teacher.momentum, teacher.key)
        else:
            assert teacher.config is not None, 'parse() lets no such teacher through'
            teachers[name] = Teacher.from_config(teacher.config, teacher.checkpoint, teacher.key, teacher.offload,
                                                 teacher.inference)
    return teachers


def attach_distiller(student: nn.Module, config: DistillConfig, teachers: dict[str, Teacher]) -> ProjectorDistiller:
    """Tap all models, build projectors of the widths found, and hook the distiller into the student.

    Random states are left as they were; the projectors' values depend on the
    seed alone.

    Raises:
        ConfigError: And its kinds, where taps or shapes do not fit the models.
    """
    if hasattr(student, CHILD):
        raise ConfigError(f'{type(student).__name__} already has a child {CHILD!r}; attach one distiller only')
    if not any(p.requires_grad for p in student.parameters()):
        raise ConfigError(f'{type(student).__name__} has no trainable parameters: the student is frozen altogether')
    losses = config.losses or [loss for name, teacher in teachers.items()
                               for loss in preset_losses(config.preset, student, teacher.model, name)]
    _check_use(losses, teachers)
    taps = TapSet(student, unique_paths((loss.student, f'{loss.key}.student') for loss in losses))
    try:
        own = probe(student, taps)
        pairs = {}
        for name, teacher in teachers.items():
            pairs.update(_match(student, taps, own, teacher, [loss for loss in losses if loss.source == name]))
        with preserved_rng():
            torch.manual_seed(torch.initial_seed())
            distiller = ProjectorDistiller(losses, pairs, teachers, taps, config.schedule, own.calls, own.channels)
    except Exception:
        taps.remove()
        raise
    device = next((p.device for p in student.parameters()), torch.device('cpu'))
    student.add_module(CHILD, distiller.to(device))
    student.register_forward_pre_hook(distiller.before_student, with_kwargs=True)
    backbone = getattr(trained_part(student)[1], 'backbone', None)
    if isinstance(backbone, nn.Module):
        backbone.register_forward_pre_hook(distiller.before_backbone)
    for path in taps.taps:
        student.get_submodule(path).register_forward_hook(distiller.after_tap)
    student.register_forward_hook(distiller.after_student, with_kwargs=True, always_call=True)
    student.register_state_dict_post_hook(_hide_state)  # type: ignore[no-untyped-call]
    student.register_load_state_dict_post_hook(_ignore_missing)  # type: ignore[no-untyped-call]
    print_log(describe(distiller), logger='current')
    return distiller


def _check_use(losses: list[LossConfig], teachers: Mapping[str, Teacher]) -> None:
    for name, teacher in teachers.items():
        if not any(loss.source == name for loss in losses):
            raise ConfigError(f'{teacher.key}: no loss learns from it; name it in from_teacher={name!r} or remove it')


def _match(student: nn.Module, taps: TapSet, own: Probe, teacher: Teacher,
           losses: list[LossConfig]) -> dict[str, list[LevelPair]]:
    """Level pairs of the losses of one teacher, by name of the loss."""
    other = teacher.tap(unique_paths((loss.teacher, f'{loss.key}.teacher') for loss in losses), student,
                        (own.image[0], *SIDES), own.channels)
    if other.image != own.image:  # the teacher takes one size only
        with contextlib.suppress(TapError):
            own = probe(student, taps, (other.image[0],))
    return {loss.name: match_levels(loss.key, own.shapes[loss.student], other.shapes[loss.teacher], loss.levels,
                                    loss.pool, loss.resize, (own.image, other.image), loss.tokens)
            for loss in losses}


def load_teachers(distiller: ProjectorDistiller, start: Any = None) -> None:
    """Read the teachers' weights, when training is about to start.

    Args:
        distiller: Whose teachers.
        start: Checkpoint that the student starts from (``load_from``), if any.

    Raises:
        CheckpointError: The weights of one cannot be read, or are of another architecture.
    """
    for teacher in distiller.teachers.values():
        teacher.load_weights()
        if start is not None and start == teacher.checkpoint:
            print_log(f'{teacher.key}.checkpoint = {teacher.checkpoint!r} is load_from as well: teacher and student '
                      'start as the same model', logger='current', level=logging.WARNING)


def attach(model: nn.Module, distill_cfg: Mapping[str, Any]) -> ProjectorDistiller:
    """Distil into a built model, for a notebook or a loop without a runner.

    Afterwards ``model(inputs=..., data_samples=..., mode='loss')`` returns the
    ``loss_srd_*`` entries too, and ``model.parameters()`` has the projectors'
    parameters: build the optimizer after this call. A teacher that averages the student
    is updated by ``model.distiller.follow(model)`` after each optimisation step.

    Args:
        model: A detector or classifier in the calling convention of MMEngine.
        distill_cfg: The ``distill`` block of a config.

    Returns:
        ProjectorDistiller: The distiller, also at ``model.distiller``.

    Raises:
        ConfigError: And its kinds, if the block is wrong or does not fit the models.
        CheckpointError: The teacher's weights cannot be loaded.
    """
    config = parse(distill_cfg)
    if config.schedule.by_epoch:
        raise ConfigError('distill.schedule.by_epoch = True: epochs are known to a runner only; count iterations')
    teachers = build_teachers(config, model)
    for teacher in teachers.values():
        teacher.load_weights()  # before the model is touched
    distiller = attach_distiller(model, config, teachers)
    distiller.follow(model)
    return distiller
