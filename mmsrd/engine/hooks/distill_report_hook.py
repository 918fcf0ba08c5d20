"""``DistillReportHook``: a page in the work directory that shows what distillation gives."""
from __future__ import annotations

import contextlib
import copy
import logging
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from ...compat import load_checkpoint_file
from ...config.checks import read
from ...config.distill_config import ReportConfig
from ...distillers import HEADER
from ...errors import ConfigError
from ...registry import HOOKS
from ...report import PAGE, ReportNotes, RunLog, main_metric, write_report
from ...utils.random_state import preserved_random_state
from ..report_pictures import ReportPictures, services, without_steps
from .distill_hook import distiller_of
from .level_scalars import LevelScalars
from .teacher_check_hook import TeacherCheckHook

LOG_INTERVAL = 50
"""Iterations between two looks at the levels, where no ``LoggerHook`` says it."""
STUDENT, TEACHER, ALONE = 'student', 'teacher', 'student alone'


@HOOKS.register_module()
class DistillReportHook(Hook):
    """Writes ``distill_report/index.html`` of the work directory after every validation; it needs no other file.

    Curves of the metric, the losses, and alignment and balance by level; the plan; the teacher's own figure; ground
    truth, teacher and student on the same validation images. With a baseline, its curves and pictures, too, the gain
    in points and in time, and a warning before training where a teacher is no better than the baseline. Scalars by
    level and the pictures also go to TensorBoard, Weights & Biases and what else ``visualizer.vis_backends`` has.

    Registered by both runners with what ``distill.report`` says, unless that is False or a config has one of its own.
    Acts in the main process. A report that cannot be written is a warning, and training goes on.

    Args:
        images: Validation images that are shown; 0 for none.
        baseline: Work directory of the student alone; None for none.
        metric: Name of the metric that the report is about; None for the main one that is logged.

    Raises:
        ConfigError: An argument is not acceptable.

    Example:
        ``distill = dict(..., report=dict(baseline='work_dirs/retinanet_r18'))``, or
        ``custom_hooks = [dict(type='mmsrd.DistillReportHook', baseline='work_dirs/retinanet_r18')]``.
    """

    priority = 'VERY_LOW'  # after LoggerHook has written the validation's results, and TeacherCheckHook the teacher's

    def __init__(self, images: int = ReportConfig.images, baseline: Optional[str] = None,
                 metric: Optional[str] = None) -> None:
        read(ReportConfig, 'DistillReportHook', dict(images=images, baseline=baseline, metric=metric))
        self.images, self.metric = images, metric
        self.baseline = None if baseline is None else str(Path(baseline).expanduser())
        self._levels: list[LevelScalars] = []
        self._interval = LOG_INTERVAL
        self._due = False
        self._pictures: Optional[ReportPictures] = None
        self._drawn = False
        self._notes = ReportNotes()
        self._written: Optional[int] = None
        self._failed: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Watch the levels, and record the plan.

        Raises:
            ConfigError: There is no such baseline, or it is the work directory itself.
        """
        if not is_main_process():
            return
        if self.baseline is not None and not Path(self.baseline).is_dir():
            raise ConfigError.at('distill.report.baseline', self.baseline, 'there is no such directory; give the work '
                                 'directory of a training of the student alone')
        if self.baseline is not None and Path(self.baseline).resolve() == Path(runner.work_dir).resolve():
            raise ConfigError.at('distill.report.baseline', self.baseline, 'is the work directory of this training, '
                                 'whose checkpoints would take the place of the baseline\'s; give --work-dir another')
        self._interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), LOG_INTERVAL)
        self._levels = [LevelScalars(loss) for loss in distiller_of(runner).feature_losses]
        with self._survived('started'):
            self._notes = self._plan(runner)
        if self.baseline is not None:
            with self._survived('completed: the teachers are not compared with the baseline'):
                _warn_of_equals(self._notes, RunLog(self.baseline), self.metric)

    def before_val(self, runner: Runner) -> None:
        """Draw ground truth and the predictions of teachers and baseline, once; it takes seconds, so not at the start.

        A teacher that ``schedule.end`` has freed by then has no pictures.
        """
        if self._levels and self.images and not self._drawn:
            self._drawn = True
            with self._survived('completed: no pictures'):
                self._pictures = ReportPictures(runner, self.images, Path(runner.work_dir, PAGE).parent)
                self._predict(runner, self._pictures)

    def _plan(self, runner: Runner) -> ReportNotes:
        distiller, check = distiller_of(runner), _check_of(runner)
        teachers = [dict(name=name, **teacher.describe(), **check.found.get(name, {}))
                    for name, teacher in distiller.teachers.items()]
        title = Path(runner.cfg.filename).stem if runner.cfg.filename else runner.experiment_name
        return ReportNotes(title, list(HEADER), [list(row) for loss in distiller.feature_losses for row in loss.rows()],
                           teachers, baseline=self.baseline or '')

    def _predict(self, runner: Runner, pictures: ReportPictures) -> None:
        device = next(runner.model.parameters()).device
        for name, teacher in distiller_of(runner).teachers.items():
            if name in _check_of(runner).same_task and teacher.can_predict():
                with self._survived(f'completed: no predictions of {teacher.key}'), _on(teacher.model, device):
                    pictures.predict(f'{name} {TEACHER}'.strip(), teacher.predict)
        if self.baseline is not None:
            with self._survived(f'completed: no pictures of the baseline {self.baseline!r}'):
                model = _baseline(runner, self.baseline)
                with _on(model, device):
                    pictures.predict(ALONE, model.test_step)  # type: ignore[arg-type]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None) -> None:
        """Forget the step before."""
        for levels in self._levels:
            levels.clear()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """Log what the step does at each level, as often as ``LoggerHook`` logs; not all steps need be distilled."""
        self._due = self._due or (runner.iter + 1) % self._interval == 0
        passed = [levels for levels in self._levels if levels.passed]
        if self._due and passed:
            self._due = False
            with self._survived('completed: no values by level are logged'), without_steps(runner):
                scalars = {key: value for levels in passed for key, value in levels.take().items()}
                if scalars:
                    runner.visualizer.add_scalars(scalars, step=runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                       outputs: Optional[Sequence[Any]] = None) -> None:
        """Draw the student's predictions of the images that are shown."""
        if self._pictures is not None:
            with self._survived("completed: no pictures of the student's predictions"):
                self._pictures.look(STUDENT, outputs or ())

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Write the page, and send the pictures."""
        if self._levels:  # not for a validation without a training
            self._write(runner)
            for backend in services(runner) if self._pictures else ():
                with self._survived(f'sent to {type(backend).__name__}'), without_steps(runner):
                    for i, picture in enumerate(self._pictures.side_by_side() if self._pictures else ()):
                        backend.add_image(f'distill_report/{i}', picture, step=runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Write the page of a training that does not end with a validation, and stop watching."""
        if self._levels and self._written != runner.iter:
            self._write(runner)
        for levels in self._levels:
            levels.close()
        self._levels = []

    def _write(self, runner: Runner) -> None:
        with self._survived('written'):
            if self._pictures is not None:
                self._notes.columns, self._notes.pictures = self._pictures.columns, self._pictures.rows()
            work_dir = Path(runner.work_dir)
            self._notes.write(work_dir)
            baselines = [] if self.baseline is None else [RunLog(self.baseline)]
            write_report([RunLog(work_dir)], work_dir / PAGE, baselines, self.metric)
            if self._written is None:
                print_log(f'Distillation report: {work_dir / PAGE}', logger='current')
            self._written = runner.iter

    @contextlib.contextmanager
    def _survived(self, done: str) -> Iterator[None]:
        """Warn once and go on: a report that fails must not end the training."""
        try:
            yield
        except Exception as e:
            if done not in self._failed:
                print_log(f'The distillation report could not be {done} ({type(e).__name__}: {e}); set report=False '
                          'in the `distill` block to turn it off', logger='current', level=logging.WARNING)
            self._failed.add(done)


def _warn_of_equals(notes: ReportNotes, alone: RunLog, metric: str | None) -> None:
    """Warn of teachers that are no better than the student has become without them."""
    metric = metric or main_metric([alone])
    reached = max((value for _, value in alone.metric(metric)), default=None) if metric else None
    for teacher in notes.teachers:
        figure = teacher.get('metrics', {}).get(metric)
        if reached is not None and figure is not None and figure <= reached:
            print_log(f'The teacher {teacher["config"]} has {metric} = {figure:.4g} on {teacher["images"]} validation '
                      f'images, and the student alone ({alone.name}) has reached {reached:.4g}: there may be nothing '
                      'to learn from it', logger='current', level=logging.WARNING)


def _check_of(runner: Runner) -> TeacherCheckHook:
    """The hook that has looked at the teachers."""
    return next((hook for hook in runner.hooks if isinstance(hook, TeacherCheckHook)), TeacherCheckHook())


def _baseline(runner: Runner, work_dir: str) -> nn.Module:
    """The student as another training has left it."""
    path = find_latest_checkpoint(work_dir)
    if path is None:
        raise ConfigError.at('distill.report.baseline', work_dir, 'it has no checkpoint')
    beside = Path(work_dir, Path(path).name)  # MMEngine writes down where it was before the directory was moved
    config = copy.deepcopy(runner.cfg.model)
    if runner.cfg.get('data_preprocessor') is not None:
        config.setdefault('data_preprocessor', copy.deepcopy(runner.cfg.data_preprocessor))
    with preserved_random_state():
        model: nn.Module = MODELS.build(config)
    checkpoint = load_checkpoint_file(str(beside) if beside.is_file() else path, 'distill.report.baseline')
    model.load_state_dict(checkpoint['state_dict'])
    return model.eval()


@contextlib.contextmanager
def _on(model: nn.Module, device: torch.device) -> Iterator[None]:
    """A model on a device for a while."""
    home = next(model.parameters()).device
    try:
        model.to(device)  # there may be no room for all of it
        yield
    finally:
        model.to(home)
