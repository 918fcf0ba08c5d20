"""Attach a distiller to a student: tap both models, build the projectors, hook in."""
from __future__ import annotations

import contextlib
from typing import Any, Mapping

import torch
from mmengine.logging import print_log
from torch import nn

from .config import DistillConfig, parse
from .distiller import CHILD, ProjectorDistiller
from .errors import ConfigError, TapError
from .matching import match_levels
from .presets import preset_losses
from .probe import SIDES, probe
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


def attach_distiller(student: nn.Module, config: DistillConfig, teacher: Teacher) -> ProjectorDistiller:
    """Tap both models, build projectors of the widths found, and hook the distiller into the student.

    Random states are left as they were; the projectors' values depend on the
    seed alone.

    Raises:
        ConfigError: And its kinds, where taps or shapes do not fit the models.
    """
    if hasattr(student, CHILD):
        raise ConfigError(f'{type(student).__name__} already has a child {CHILD!r}; attach one distiller only')
    losses = config.losses or preset_losses(config.preset, student, teacher.model)
    paths = unique_paths((loss.student, f'{loss.key}.student') for loss in losses)
    taps = TapSet(student, paths)
    try:
        student_probe = probe(student, taps)
        teacher_probe = teacher.tap(unique_paths((loss.teacher, f'{loss.key}.teacher') for loss in losses), student,
                                    (student_probe.image[0], *SIDES))
        if teacher_probe.image != student_probe.image:  # the teacher takes one size only
            with contextlib.suppress(TapError):
                student_probe = probe(student, taps, (teacher_probe.image[0],))
        pairs = {loss.name: match_levels(loss.key, student_probe.shapes[loss.student],
                                         teacher_probe.shapes[loss.teacher], loss.levels, loss.pool, loss.resize,
                                         student_probe.image == teacher_probe.image, loss.tokens)
                 for loss in losses}
        with preserved_rng():
            torch.manual_seed(torch.initial_seed())
            distiller = ProjectorDistiller(losses, pairs, teacher, taps, config.schedule)
    except Exception:
        taps.remove()
        raise
    device = next((p.device for p in student.parameters()), torch.device('cpu'))
    student.add_module(CHILD, distiller.to(device))
    student.register_forward_pre_hook(distiller.before_student, with_kwargs=True)
    student.register_forward_hook(distiller.after_student, with_kwargs=True, always_call=True)
    student.register_state_dict_post_hook(_hide_state)  # type: ignore[no-untyped-call]
    student.register_load_state_dict_post_hook(_ignore_missing)  # type: ignore[no-untyped-call]
    print_log(distiller.describe(), logger='current')
    return distiller


def attach(model: nn.Module, distill_cfg: Mapping[str, Any]) -> ProjectorDistiller:
    """Distil into a built model, for a notebook or a loop without a runner.

    Afterwards ``model(inputs=..., data_samples=..., mode='loss')`` returns the
    ``loss_srd_*`` entries too, and ``model.parameters()`` has the projectors'
    parameters: build the optimizer after this call.

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
    teacher = Teacher.from_config(config.teacher.config, config.teacher.checkpoint)
    teacher.load_weights()
    return attach_distiller(model, config, teacher)
