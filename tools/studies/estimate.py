"""What trainings will take: GPU hours from FLOPs, and disk for checkpoints; nothing is trained."""
from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from functools import partial
from typing import Iterable

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from runs import ROOT, Job

sys.path.insert(0, str(ROOT / 'tools' / 'analysis'))
from costs import counted

from mmsrd.distillers import attach_distiller, read_block
from mmsrd.recorders import dummy_samples, evaluating, trained_part
from mmsrd.teachers.build_model import build_model

FLOPS = 50e12
"""FLOPs a second of a GPU that trains: what Faster R-CNN R50 reaches on an H100, with AMP (batch 8, 205 ms) or with
TF32 (216 ms)."""


@dataclass(frozen=True)
class Work:
    """One image of a training."""

    student: int  # FLOPs of the student's forward pass; a multiply-add counts 2
    teacher: int  # FLOPs of the teacher to its deepest tap; 0 without one
    parameters: int  # parameters of the student


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
            taught += counted(partial(teacher.forward, images, samples))[1] or 0
    model = trained_part(student)[1]
    with evaluating(model):
        own = counted(partial(model, images, samples, mode='tensor'))[1] or 0
    return Work(own, taught, parameters)


def estimate(jobs: Iterable[Job], images: int, shape: tuple[int, int]) -> str:
    """A line for each kind of training, and their sum; an epoch has so many ``images`` of (H, W)."""
    MMLogger.get_current_instance().setLevel(logging.ERROR)  # the plan of each pair
    works: dict[tuple[str, bool], Work] = {}
    hours: dict[tuple[str, str], list[float]] = {}
    disk = 0.0
    for job in jobs:
        config = configured(job)
        kind = job.config, bool(config.get('distill'))
        if kind not in works:
            works[kind] = work_of(config, shape)
        work, epochs = works[kind], config.train_cfg.max_epochs
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
