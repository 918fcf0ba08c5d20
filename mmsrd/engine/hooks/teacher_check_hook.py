"""``TeacherCheckHook``: how good each teacher is on the student's validation set, before the first step."""
from __future__ import annotations

import copy
import json
import logging
import time
import zlib
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...distillers.presets import fitting_preset
from ...registry import HOOKS
from ...teachers import PretrainedTeacher
from ...teachers.class_names import num_classes, say_how_classes_differ
from ...utils.random_state import preserved_random_state
from .distill_hook import distiller_of, student_of

IMAGES = 200
SECONDS = 60.0
"""Longest time for one teacher: what has been looked at by then is evaluated."""
CHANCE = 0.02
"""AP below which a detector is no better than one that guesses."""


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Runs each teacher that has the student's task and classes on images of the student's validation set.

    The whole teacher runs, through the student's own validation loader and evaluator and the teacher's own
    preprocessing; results are logged as ``teacher/<metric>``. A teacher that is near chance is a warning that says what
    to look at. ``teacher.check`` of the ``distill`` block chooses how many images, or none.

    Acts once, before training, and writes what it has found into ``teacher_check.json`` of the work directory, so
    that a resume does not do it again. Random states are left as they were.
    """

    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        """Check all teachers."""
        student = student_of(runner)
        for name, teacher in distiller_of(runner).teachers.items():
            if not isinstance(teacher, PretrainedTeacher) or teacher.checkpoint is None:
                continue
            metainfo = getattr(getattr(runner.train_dataloader, 'dataset', None), 'metainfo', {})
            same = say_how_classes_differ(teacher.key, teacher.classes, metainfo.get('classes'))
            images = teacher.check
            if images is None:
                classes = num_classes(student), num_classes(teacher.model)
                fits = same and classes[0] == classes[1] and fitting_preset(student) == fitting_preset(teacher.model) \
                    and not getattr(teacher.model, 'any_task', False)
                images = IMAGES if fits else 0
            if images and runner._val_dataloader is not None and runner._val_evaluator is not None:
                self._report(runner, f'{name}_teacher' if name else 'teacher', teacher, images)

    def _report(self, runner: Runner, name: str, teacher: PretrainedTeacher, images: int) -> None:
        loader = runner._val_dataloader
        config = json.dumps(loader, default=str, sort_keys=True) if isinstance(loader, dict) else ''
        cache = Path(runner.work_dir, 'teacher_check.json')
        key = f'{teacher.weights_checksum:08x}-{images}-{zlib.crc32(config.encode()):08x}'
        known: list[Any] = [json.loads(cache.read_text()) if is_main_process() and cache.is_file() else {}]
        broadcast_object_list(known)
        found = known[0].get(key)
        if found is None:
            found = evaluate(runner, teacher, images)
            if is_main_process() and found:
                cache.write_text(json.dumps({**known[0], key: found}, indent=1) + '\n')
        if not found:
            return
        scalars = {f'{name}/{metric}': value for metric, value in found['metrics'].items()
                   if isinstance(value, (int, float))}
        print_log(f'{teacher.key} on {found["images"]} images of the student\'s validation set: '
                  + ', '.join(f'{metric} {value:.4g}' for metric, value in scalars.items()), logger='current')
        runner.visualizer.add_scalars(scalars, step=0)
        worst = near_chance(found['metrics'], num_classes(teacher.model))
        if worst is not None:
            print_log(f'{teacher.key}: {worst} = {found["metrics"][worst]:.4g} is near chance. Look at the order of '
                      'its classes, at the order of its channels (BGR or RGB in its data_preprocessor), and whether '
                      f'{teacher.checkpoint!r} is the file for {teacher.config.name}', logger='current',
                      level=logging.WARNING)


def near_chance(metrics: dict[str, Any], classes: int | None) -> str | None:
    """The metric by which a model is no better than one that guesses; None where there is none."""
    for metric, value in metrics.items():
        last = metric.rpartition('/')[2]
        if (last.endswith('mAP') and 0 <= value < CHANCE) or \
                (last == 'top1' and classes is not None and classes > 1 and value < 150 / classes):
            return metric
    return None


@torch.no_grad()
def evaluate(runner: Runner, teacher: PretrainedTeacher, images: int) -> dict[str, Any] | None:
    """Run a teacher on the first images of the student's validation set.

    Args:
        runner: The student's.
        teacher: The teacher, with its weights.
        images: How many, in all processes together.

    Returns:
        dict: ``images`` that were evaluated and their ``metrics``; None where it could not be done, with a warning.
    """
    options = runner._val_dataloader
    if isinstance(options, dict):  # its workers would live as long as the training
        options = {**copy.deepcopy(options), 'num_workers': 0, 'persistent_workers': False}
        options.pop('prefetch_factor', None)
    device = next(student_of(runner).parameters()).device
    with preserved_random_state():
        loader = runner.build_dataloader(options)
        evaluator = runner.build_evaluator(copy.deepcopy(runner._val_evaluator))
        evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', {})
        home = next(teacher.model.parameters()).device
        teacher.model.to(device)
        ids, failure, started = [], '', time.monotonic()
        # Processes stop together, whatever each has found: the evaluator exchanges results.
        for batch in loader:
            try:
                samples = teacher.model.test_step(batch)  # type: ignore[operator]
                evaluator.process(data_samples=samples, data_batch=batch)
                ids += [getattr(sample, 'img_id', None) for sample in samples]
            except Exception as e:
                failure = f'{type(e).__name__}: {e}'
            state = torch.tensor([len(ids), float(bool(failure)), float(time.monotonic() - started > SECONDS)],
                                 device=device)
            all_reduce(state)
            count, failed, late = state.tolist()
            if failed or late or count >= images:
                break
        teacher.model.to(home)
        if failed:
            print_log(f'{teacher.key}: it cannot be evaluated on the student\'s validation set '
                      f'({failure or "see the other processes"}); check=False of the teacher leaves this out',
                      logger='current', level=logging.WARNING)
            return None
        seen = {image for part in all_gather_object(ids) for image in part}
        for metric in evaluator.metrics:
            if hasattr(metric, 'img_ids'):  # CocoMetric would count all other images as missed
                metric.img_ids = sorted(seen)
        size = min(int(count), len(loader.dataset))
        return dict(images=size, metrics={key: float(value) for key, value in evaluator.evaluate(size).items()})
