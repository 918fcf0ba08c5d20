#!/usr/bin/env python
"""Distil for thousands of iterations with changing image sizes, and show that memory and objects do not grow.

Every interval it prints what this process holds: resident memory, tensors, hooks and open
files, and at the end the slope of each over the second half of the run.
"""
from __future__ import annotations

import gc
import json
import os
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import ExponentialMovingAverage
from outcome import command
from tiny import build_detector, compose_set, tiny_student, tiny_teacher

import mmsrd

SIDES = (64, 96, 128, 160)
FAIL_EVERY = 50


def held(model: torch.nn.Module) -> dict[str, float]:
    """Return what this process holds now."""
    gc.collect()
    with warnings.catch_warnings():  # deprecated attributes that looking at an object touches
        warnings.simplefilter('ignore')
        tensors = [x for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter)]
    distiller: Any = model.distiller
    teacher = distiller.teacher
    modules = [*model.modules(), *(() if teacher.released else teacher.model.modules())]
    hooks = sum(len(value) for module in modules for value in vars(module).values() if isinstance(value, OrderedDict))
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return dict(memory_mib=pages * os.sysconf('SC_PAGE_SIZE') / 2**20, tensors=len(tensors),
                graphs=sum(x.grad_fn is not None for x in tensors), hooks=hooks,
                files=len(os.listdir('/proc/self/fd')), threads=len(os.listdir('/proc/self/task')))


def soak(model: torch.nn.Module, iterations: int, interval: int) -> list[dict[str, float]]:
    """Train on random images; every 50th step fails inside of the student. One record per interval."""
    from mmdet.testing import demo_mm_inputs
    average = ExponentialMovingAverage(model, 0.01)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    chance = np.random.default_rng(0)
    prepare: Any = model.data_preprocessor
    records = []
    for iteration in range(1, iterations + 1):
        height, width = (int(x) for x in chance.choice(SIDES, 2))
        packed = demo_mm_inputs(2, image_shapes=[(3, height, width)] * 2, num_items=[2, 2], num_classes=10)
        data = prepare(packed, True)
        if iteration % FAIL_EVERY == 0:
            handle = model.bbox_head.register_forward_hook(_fail)  # type: ignore[union-attr, operator]
            try:
                model(**data, mode='loss')
            except ArithmeticError:
                pass
            finally:
                handle.remove()
        losses = model(**data, mode='loss')
        total, logged = model.parse_losses(losses)  # type: ignore[operator]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        average.update_parameters(model)
        del losses, total, logged, data, packed
        if iteration % interval == 0:
            records.append(dict(iteration=iteration, **held(model)))
            print(json.dumps(records[-1]), flush=True)
    return records


def _fail(*args: Any) -> None:
    raise ArithmeticError('a failure inside of the student')


def slopes(records: list[dict[str, float]]) -> dict[str, float]:
    """Change of each figure per 1000 iterations, by least squares over the second half of the run."""
    half = records[len(records) // 2:]
    at = np.array([record['iteration'] for record in half]) / 1000
    return {key: float(np.polyfit(at, [record[key] for record in half], 1)[0]) for key in half[0] if key != 'iteration'}


def trial(folder: Path, iterations: int, interval: int) -> dict[str, Any]:
    """Distil the tiny detector; how fast each figure grows."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build_detector(tiny_student(compose_set(folder)).model).train()
    config, checkpoint = tiny_teacher(folder)
    mmsrd.attach(model, dict(teacher=dict(config=config, checkpoint=checkpoint),
                             losses=dict(neck=dict(student='neck', teacher='neck', weight=4.0))))
    records = soak(model, iterations, interval)
    return dict(iterations=iterations, looks=len(records), per_1000_iterations=slopes(records))


if __name__ == '__main__':
    command(__doc__, trial, {'iterations': 3000, 'interval': 200})
