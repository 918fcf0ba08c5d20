"""What trainings will take: GPU hours from FLOPs, and disk for checkpoints; nothing is trained."""
from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Iterable

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from runs import ROOT, Job
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmsrd.distillers import attach_distiller, read_block
from mmsrd.recorders import dummy_samples, evaluating, trained_part
from mmsrd.teachers.build_model import build_model

FLOPS = 50e12
"""FLOPs a second of a GPU that trains: what Faster R-CNN R50 reaches on an H100, with AMP (batch 8, 205 ms) or with
TF32 (216 ms)."""


@dataclass(frozen=True)
class Work:
    """One image of a training.

    Attributes:
        student: FLOPs of the student's forward pass; a multiply-add counts 2.
        teacher: FLOPs of the teacher to its deepest tap; 0 without one.
        parameters: Parameters of the student.
    """

    student: int
    teacher: int
    parameters: int


def work_of(config: Config, shape: tuple[int, int]) -> Work:
    """Count by a forward pass of student and teacher with random weights and one image of ``shape`` (H, W)."""
    student = build_model(config, 'model')
    parameters = sum(p.numel() for p in student.parameters())
    images = torch.randn(1, 3, *shape)
    samples = dummy_samples(images)
    taught = 0
    if config.get('distill'):
        distiller = attach_distiller(student, read_block(config.distill))
        for teacher in distiller.teachers.values():
            teacher.record()  # its weights are not read
            teacher.move_to(images.device)
            taught += _flops(teacher.model, partial(teacher.forward, images, samples))
    model = trained_part(student)[1]
    return Work(_flops(model, partial(model, images, samples, mode='tensor')), taught, parameters)


def _flops(model: nn.Module, forward: Callable[[], Any]) -> int:
    with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
        forward()
    return int(counter.get_total_flops())


def estimate(jobs: Iterable[Job], images: int, shape: tuple[int, int]) -> str:
    """A line for each kind of training among ``jobs``, and their sum; empty without jobs.

    Args:
        jobs: Trainings.
        images: Images of an epoch.
        shape: Size (H, W) of a usual image.
    """
    MMLogger.get_current_instance().setLevel(logging.ERROR)  # the plan of each pair
    counted: dict[tuple[str, bool], Work] = {}
    hours: dict[tuple[str, str], list[float]] = {}
    disk = 0.0
    for job in jobs:
        config = configured(job)
        kind = job.config, bool(config.get('distill'))
        if kind not in counted:
            counted[kind] = work_of(config, shape)
        work, epochs = counted[kind], config.train_cfg.max_epochs
        hours.setdefault((job.dataset, job.row), []).append(
            (3 * work.student + work.teacher) * images * epochs / FLOPS / 3600)
        # Weights and the optimizer's state, twice while a new checkpoint takes the place of the old one.
        disk += 2 * 4 * work.parameters * (3 if 'Adam' in config.optim_wrapper.optimizer.type else 2)
    lines = [f'{dataset}, {row}: {len(each)} × {each[0]:.1f} GPU hours' for (dataset, row), each in hours.items()]
    if not lines:
        return ''
    total = sum(sum(each) for each in hours.values())
    return ''.join(f'{line}\n' for line in [
        *lines, f'Together {total:.0f} GPU hours or more: at {FLOPS / 1e12:.0f} TFLOP/s, which an H100 reaches where '
                f'the data keep up; {disk / 1e9:.1f} GB of disk for checkpoints'])


def configured(job: Job) -> Config:
    """The config of a training with its options."""
    config = Config.fromfile(str(ROOT / job.config))
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    if job.options:
        config.merge_from_dict(parser.parse_args(['--cfg-options', *job.options]).cfg_options)
    return config
