"""``TeacherCheckHook``: how good each teacher is on the student's validation set, before the first step."""
from __future__ import annotations

import contextlib
import json
import logging
import zlib
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...distillers import preset_for
from ...registry import HOOKS
from ...report.comparison import scale_of
from ...teachers import Teacher
from ...teachers.class_names import names_in, num_classes
from ...utils.files import write_whole
from ..evaluate_teacher import evaluate
from ..report_pictures import services, without_steps
from .distill_hook import distiller_of, student_of

CHANCE = 2.0
"""Points of AP below which a detector is no better than one that guesses."""


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Runs each teacher that has the student's task and classes on images of the student's validation set.

    The whole teacher runs, through the student's own validation loader and evaluator and the teacher's own
    preprocessing; results are logged as ``teacher/<metric>``. A teacher near chance gives a warning that says what
    to check. ``teacher.check`` of the ``distill`` block chooses how many images, or none.

    Acts once, before training, and writes what it has found into ``teacher_check.json`` of the work directory, so
    that a resume does not do it again. Random states are left as they were.

    Attributes:
        same_task: Names of the teachers whose predictions can be compared with the student's.
        found: Name of a teacher → number of ``images``, ``of`` how many, and ``metrics``.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self.same_task: set[str] = set()
        self.found: dict[str, dict[str, Any]] = {}

    def before_train(self, runner: Runner) -> None:
        """Check all teachers.

        Raises:
            ConfigError: A model of another library is to be evaluated, which has no predictions of the student's kind.
        """
        student = student_of(runner)
        classes = names_in(getattr(getattr(runner.train_dataloader, 'dataset', None), 'metainfo', None))
        for name, teacher in distiller_of(runner).teachers.items():
            fits = teacher.can_predict() and teacher.match_classes(student, classes).same \
                and preset_for(student) is preset_for(teacher.model)
            if fits:
                self.same_task.add(name)
            images = teacher.check_images(fits)
            if images and runner._val_dataloader is not None and runner._val_evaluator is not None:
                try:
                    self._check(runner, name, teacher, images)
                except Exception as e:  # whatever an evaluator or a service makes of it: a check ends no training
                    print_log(f'{teacher.key}: the check of the teacher failed ({type(e).__name__}: {e}). Training '
                              'goes on; set check=False in its block to skip this', logger='current',
                              level=logging.WARNING)

    def _check(self, runner: Runner, name: str, teacher: Teacher, images: int) -> None:
        cache = Path(runner.work_dir, 'teacher_check.json')
        # What a user may have mended since the last start: data, evaluator, preprocessing, thresholds.
        settings = json.dumps([runner._val_dataloader, runner._val_evaluator, teacher.model_config,
                               str(teacher.plan.conversion)], default=str)
        key = f'{teacher.fingerprint()["weights"]:08x}-{images}-{zlib.crc32(settings.encode()):08x}'
        known: list[Any] = [_read(cache) if is_main_process() else {}]
        broadcast_object_list(known)
        found = known[0].get(key) or evaluate(runner, teacher, images, next(runner.model.parameters()).device)
        if not found:
            return
        self.found[name] = found
        if is_main_process() and key not in known[0]:
            with contextlib.suppress(OSError):  # then a resume does it again
                write_whole(cache, json.dumps({**known[0], key: found}, indent=1) + '\n')
        scalars = {f'{name}_teacher/{metric}'.lstrip('_'): value for metric, value in found['metrics'].items()}
        seen, figures = str(found['images']), ', '.join(f'{metric} {value:.4g}' for metric, value in scalars.items())
        note = ''
        if found['images'] < found.get('of', 0):  # a file of an earlier version does not say
            seen += f' of {found["of"]}'
            note = '. AP on a part is higher than on the whole set' if 'mAP' in figures else ''
        print_log(f'{teacher.key} on {seen} images of the student\'s validation set: {figures}{note}',
                  logger='current')
        # Tools that read scalars.json would take the figure for the student's: they look at the end of its name.
        for backend in services(runner):
            with without_steps(runner):
                backend.add_scalars(scalars, step=0)
        worst = near_chance(found['metrics'], num_classes(teacher.model))
        if worst is not None:
            print_log(f'{teacher.key}: {worst} = {found["metrics"][worst]:.4g} is near chance. Check the order of '
                      'its classes, the order of its channels (BGR or RGB in its data_preprocessor), and whether '
                      f'{teacher.describe()["checkpoint"]!r} is the checkpoint of {teacher.name}', logger='current',
                      level=logging.WARNING)


def _read(path: Path) -> dict[str, Any]:
    """Return what checks before have found; nothing where the file cannot be read."""
    try:
        entries = json.loads(path.read_text()).items() if path.is_file() else ()
    except (OSError, ValueError, AttributeError):
        return {}
    return {key: found for key, found in entries
            if isinstance(found, dict) and isinstance(found.get('metrics'), dict) and 'images' in found}


def near_chance(metrics: dict[str, Any], classes: int | None) -> str | None:
    """The metric by which a model is no better than one that guesses; None where there is none."""
    for metric, value in metrics.items():
        last = metric.rpartition('/')[2]
        if (last.endswith('mAP') and 0 <= value * scale_of(metric, [value]) < CHANCE) or \
                (last == 'top1' and classes is not None and classes > 1 and value < 150 / classes):
            return metric
    return None
