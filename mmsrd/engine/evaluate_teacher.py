"""A teacher on the student's validation set, with the student's evaluator."""
from __future__ import annotations

import contextlib
import copy
import logging
import time
from typing import Any, Callable, Iterator

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..teachers import Teacher
from ..utils.random_state import preserved_random_state

SECONDS = 60.0
"""Longest time for one teacher: what has been looked at by then is evaluated."""


@torch.no_grad()
def evaluate(runner: Runner, teacher: Teacher, images: int, device: torch.device) -> dict[str, Any] | None:
    """Run a teacher on images of the student's validation set, as far apart as possible: files may be in an order.

    Args:
        runner: The student's.
        teacher: The teacher, with its weights.
        images: How many, in all processes together.
        device: Where the teacher runs.

    Returns:
        dict: ``images`` that were evaluated, ``of`` how many, and
            ``metrics``; None where it could not be done, with a warning.
    """
    home = next(teacher.model.parameters()).device
    size = whole = 0
    metrics: dict[str, Any] = {}
    failures: list[str] = []
    try:
        with preserved_random_state(), _noted(failures):
            loader = runner.build_dataloader(without_workers(runner._val_dataloader))
            evaluator = runner.build_evaluator(copy.deepcopy(runner._val_evaluator))
            if type(evaluator).evaluate is not Evaluator.evaluate:
                raise NotImplementedError(f'{type(evaluator).__name__} gives parts of the set to metrics of their own')
            evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', {})
            ids, failure = _predict(teacher, loader, evaluator, images, device)
            failures.append(failure)
            parts = all_gather_object(ids)
            seen = sorted({image for part in parts for image in part})
            whole = len(loader.dataset)
            size = min(sum(map(len, parts)), whole)  # MMPose has a prediction for each person of an image
            for metric in evaluator.metrics if not failure and seen else ():
                if getattr(metric, 'outfile_prefix', None):
                    metric.outfile_prefix = None  # its files are the student's
                if hasattr(metric, 'img_ids'):  # CocoMetric would count all other images as missed
                    metric.img_ids = seen
                elif size < whole and hasattr(metric, 'coco'):  # MMPose's
                    failures.append(f'{type(metric).__name__} counts the images as missed that were not looked at')
                    continue
                metric.compute_metrics = _guarded(metric.compute_metrics, failures)
                with _noted(failures):  # a metric may want to see the whole set
                    metrics.update(metric.evaluate(size))
    finally:
        teacher.model.to(home)
    failure = next(filter(None, (text for part in all_gather_object(failures) for text in part)), '')
    figures = {key: float(value) for key, value in metrics.items() if _is_number(value)}
    if failure or not figures:
        print_log(f'{teacher.key}: the teacher cannot be evaluated on the student\'s validation set '
                  f'({failure or "it gives no figure"}). Training goes on; set check=False in its block to skip this',
                  logger='current', level=logging.WARNING)
        return None
    return dict(images=size, of=whole, metrics=figures)


@contextlib.contextmanager
def _noted(failures: list[str]) -> Iterator[None]:
    """An exception becomes a text: no evaluation of a teacher may end a training."""
    try:
        yield
    except Exception as e:
        failures.append(f'{type(e).__name__}: {e}')


def without_workers(options: Any) -> Any:
    """The options of a data loader, but with no workers that would live as long as the training."""
    if not isinstance(options, dict):
        return options
    options = {**copy.deepcopy(options), 'num_workers': 0, 'persistent_workers': False}
    options.pop('prefetch_factor', None)
    return options


def _predict(teacher: Teacher, loader: Any, evaluator: Evaluator, images: int,
             device: torch.device) -> tuple[list[Any], str]:
    """Give the evaluator the teacher's predictions; what was seen, and why it failed in one of the processes.

    All processes stop together, because the evaluator exchanges results; some have fewer batches than others.
    """
    ids: list[Any] = []
    failure, started, batches, world_size = '', time.monotonic(), spread_batches(loader, images), get_world_size()
    while True:
        batch = None
        try:
            batch = next(batches, None)
            if not ids:
                teacher.model.to(device)  # a teacher that is kept in host memory may not fit
            if batch is not None:
                samples = teacher.predict(batch)
                evaluator.process(data_samples=samples, data_batch=batch)
                ids += [getattr(sample, 'img_id', (get_rank(), len(ids), i)) for i, sample in enumerate(samples)]
        except Exception as e:
            failure = f'{type(e).__name__}: {e}'
        late = time.monotonic() - started > SECONDS
        state = torch.tensor([len(ids), bool(failure), late, batch is None], dtype=torch.float32, device=device)
        all_reduce(state)
        count, failed, late_ones, ended = state.tolist()
        if failed or late_ones or ended == world_size or count >= images:
            return ids, next(filter(None, all_gather_object(failure)), '')


def spread_batches(loader: Any, images: int) -> Iterator[Any]:
    """Yield this process's batches of images that are spread over a data set; of all its images where it has no length.

    Args:
        loader: Data loader without workers.
        images: How many images, in all processes together.
    """
    dataset, size = loader.dataset, getattr(loader, 'batch_size', None) or 1
    if not hasattr(dataset, '__len__') or not hasattr(dataset, '__getitem__'):
        yield from loader
        return
    count = min(images, len(dataset))
    own = [i * len(dataset) // count for i in range(count)][get_rank()::get_world_size()]
    for start in range(0, len(own), size):
        yield loader.collate_fn([dataset[i] for i in own[start:start + size]])


def _guarded(compute: Callable[[Any], dict[str, Any]], failures: list[str]) -> Callable[[Any], dict[str, Any]]:
    """A metric's computation, which only the first process does while others wait: it fails without an exception."""
    def run(results: Any) -> dict[str, Any]:
        with _noted(failures):  # masks are asked for, and the teacher has boxes only
            return compute(results)
        return {}
    return run


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
