"""Files of a training in its work directory: the log of MMEngine, and the notes of the report hook."""
from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from mmengine.config import Config

from ..errors import MMSRDError
from ..utils.files import write_whole

Curve = List[Tuple[float, float]]
Record = Dict[str, Any]
LOGS = '*/vis_data/scalars.json'
SPECTRA = 'projector_spectra.jsonl'
"""File beside it in which :class:`mmsrd.ProjectorDiagnosticsHook` writes all singular values: too many for scalars."""
NOTES = 'distill_report/report.json'
"""File of the notes, seen from the work directory."""


@dataclass(frozen=True)
class Validation:
    """One validation.

    Attributes:
        step: Iterations of training before it.
        seconds: Time of these iterations.
        metrics: Results by name.
    """

    step: int
    seconds: float
    metrics: dict[str, float]


class RunLog:
    """Log of a training from its first start on, resumes included, as ``LocalVisBackend`` has written it.

    Args:
        work_dir: Work directory of the training.
        name: Name in a report; that of the directory by default.

    Attributes:
        training: Records of training iterations; ``iter`` is in each.
        levels: Records of the distiller alone, values by level among them.
        validations: Validations.
        spectra: Singular values by projector at their last measurement; empty where there was none.

    Example:
        >>> from mmsrd.report import RunLog
        >>> RunLog('work_dirs/retinanet').validations[-1].metrics  # doctest: +SKIP
        {'coco/bbox_mAP': 0.374, ...}
    """

    def __init__(self, work_dir: str | Path, name: str = '') -> None:
        self.work_dir = Path(work_dir)
        self.name = name or self.work_dir.resolve().name
        self.training: list[Record] = []
        self.levels: list[Record] = []
        self.validations: list[Validation] = []
        self.spectra: dict[str, list[float]] = {}
        self._elapsed: list[float] = []  # seconds at each record of training
        self._smoothed: set[str] = set()  # names of values that are logged a second time, over more iterations
        self._step_time = 0.0  # seconds of an iteration in the newest one, without a validation
        for path in sorted(self.work_dir.glob(LOGS)):
            config = _config_of(path.parent)
            processor = config.get('log_processor') or {}
            custom = processor.get('custom_cfg') or ()
            self._smoothed |= {entry['log_name'] for entry in custom if 'log_name' in entry}
            records = [_plain(record, processor.get('log_with_hierarchy', False)) for record in _records(path)]
            self._add(records, *_validation_interval(config.get('train_cfg') or {}))
            measured = _records(path.with_name(SPECTRA)) if path.with_name(SPECTRA).is_file() else []
            self.spectra = next((record['spectra'] for record in measured[::-1] if record['spectra']), self.spectra)

    @classmethod
    def from_work_dir(cls, work_dir: str | Path, name: str = '') -> RunLog:
        """Return the log of a work directory in which something has to be logged.

        Args:
            work_dir: Work directory of the training.
            name: Name in a report; that of the directory by default.

        Raises:
            MMSRDError: Nothing was logged there.
        """
        log = cls(work_dir, name)
        if not log.training and not log.validations:
            raise MMSRDError(f'{work_dir}: nothing was logged there ({LOGS}); is it the work directory of a training '
                             "with dict(type='LocalVisBackend') among the backends of its visualizer?")
        return log

    def _add(self, records: list[Record], interval: int | None, length: int) -> None:
        """Append the log of another start; iterations that were done twice count once.

        Args:
            records: Its lines.
            interval: Iterations between two validations, where they are counted.
            length: Iterations of the training, after which newer versions of MMEngine validate in any case.
        """
        start = next((record['step'] for record in records if 'iter' in record), None)
        if start is not None:
            self.training = [record for record in self.training if record['step'] < start]
            self._elapsed = self._elapsed[:len(self.training)]
            self.levels = [record for record in self.levels if record['step'] < start]
            self.validations = [validation for validation in self.validations if validation.step < start]
        for record in records:
            if 'iter' in record:
                self._add_time(record)
                self.training.append(record)
            elif any(key.startswith('srd_') for key in record):
                self.levels.append(record)
            elif 'time' in record:
                # Counted in epochs or in iterations, of which there are never less.
                step = max(record['step'], self.training[-1]['step'] if self.training else 0)
                if interval is not None:  # the last iterations before it may not have been logged
                    before = self.validations[-1].step if self.validations else 0
                    step = min(max(-(-step // interval), before // interval + 1) * interval, length)
                metrics = {key: float(value) for key, value in record.items()
                           if key not in ('step', 'time', 'data_time') and isinstance(value, (int, float))}
                self.validations.append(Validation(step, self.seconds, metrics))

    def _add_time(self, record: Record) -> None:
        """Add the time of the iterations since the last record."""
        before = self.training[-1]['step'] if self.training else 0
        seconds = record.get('time', 0.0)
        if self.validations and self.validations[-1].step >= before:
            # A loop that counts iterations adds the time of the validation, report included, to that of the next one.
            seconds = min(seconds, self._step_time or seconds)
        self._step_time = seconds
        self._elapsed.append(self.seconds + seconds * (record['step'] - before))

    @property
    def seconds(self) -> float:
        """Time of all training iterations, without validations."""
        return self._elapsed[-1] if self._elapsed else 0.0

    @property
    def seconds_per_step(self) -> float:
        """Mean time of an iteration; 0 where nothing is known."""
        return self.seconds / self.training[-1]['step'] if self.training else 0.0

    def metric(self, name: str, in_time: bool = False) -> Curve:
        """Return a metric over iterations, or over minutes of training if ``in_time``."""
        return [(validation.seconds / 60 if in_time else validation.step, validation.metrics[name])
                for validation in self.validations if name in validation.metrics]

    def curves(self, start: str) -> dict[str, Curve]:
        """Return curves over iterations of all scalars whose name begins with ``start``, by the rest of the name."""
        curves: dict[str, Curve] = {}
        for record in (*self.levels, *self.training):
            for key, value in record.items():
                if key.startswith(start) and isinstance(value, (int, float)):
                    curves.setdefault(key[len(start):], []).append((record['step'], value))
        return {name: sorted(curve) for name, curve in curves.items()}

    def own_loss(self) -> Curve:
        """Return the sum of the student's own losses over iterations: all but those of the distiller.

        A model whose only loss is named ``loss``, as a classifier's, has logged it in place of the sum. Without labels
        there are none.
        """
        curve = []
        for record in self.training:
            own = [value for key, value in record.items()
                   if 'loss' in key and key not in ('loss', *self._smoothed) and not key.startswith('loss_srd_')]
            # Not the sum without the distiller's: those are means over fewer steps where not all are distilled.
            added = [value for key, value in record.items() if key.startswith('loss_srd_')]
            if own:
                curve.append((record['step'], sum(own)))
            elif 'loss' in record and not (added and math.isclose(record['loss'], sum(added), rel_tol=1e-4)):
                curve.append((record['step'], record['loss']))
        return curve


def _config_of(folder: Path) -> Mapping[str, Any]:
    """Return the config that MMEngine writes beside a log; an empty one where it cannot be read."""
    try:
        config: Mapping[str, Any] = Config.fromfile(str(folder / 'config.py'), import_custom_modules=False).to_dict()
    except Exception:  # it is not there, or not as MMEngine writes it
        return {}
    return config


def _validation_interval(loop: Mapping[str, Any]) -> tuple[int | None, int]:
    """Return ``val_interval`` and length of a training by iterations, of its ``train_cfg``."""
    interval = loop.get('val_interval', 1000)
    fits = 'max_iters' in loop and not loop.get('dynamic_intervals') and isinstance(interval, int) and interval > 0
    return (interval, int(loop['max_iters'])) if fits else (None, 0)


def _records(path: Path) -> list[Record]:
    """Return the lines of a file of JSON, without a last one that is being written."""
    records = []
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and 'step' in record:
            records.append(record)
    return records


def _plain(record: Record, hierarchy: bool) -> Record:
    """Return a record without MMEngine's hierarchy of names, and without the slash that version 0.1.0 had within them.
    """
    named = {re.sub('^(train|val)/', '', key) if hierarchy else key: value for key, value in record.items()}
    return {key.replace('/', '_') if 'iter' in record and key.startswith('srd_') else key: value
            for key, value in named.items()}


@dataclass
class ReportNotes:
    """Content of a report that is in no log: :class:`mmsrd.DistillReportHook` writes it into the work directory.

    Attributes:
        title: Name of the training's config.
        header: Columns of the plan: what is compared with what.
        plan: Its rows.
        teachers: ``name``, ``config``, ``checkpoint``, and where they have been evaluated ``images`` and ``metrics``.
        columns: Names of the predictors that the pictures show.
        pictures: ``title``, and for each column a ``file`` beside the notes or a ``text``.
        baseline: Work directory of the student alone; empty for none.
    """

    title: str = ''
    header: list[str] = field(default_factory=list)
    plan: list[list[str]] = field(default_factory=list)
    teachers: list[dict[str, Any]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    baseline: str = ''

    @classmethod
    def read(cls, work_dir: Path) -> ReportNotes:
        """Return the notes of a work directory; empty ones where there are none."""
        path = work_dir / NOTES
        return cls(**json.loads(path.read_text(encoding='utf-8'))) if path.is_file() else cls()

    def write(self, work_dir: Path) -> None:
        """Write them into a work directory."""
        write_whole(work_dir / NOTES, json.dumps(asdict(self), indent=1) + '\n')

    def best_teacher(self, metric: str) -> dict[str, Any] | None:
        """Return the teacher that was best by a metric; None where none was evaluated."""
        known = [teacher for teacher in self.teachers if metric in teacher.get('metrics', {})]
        return max(known, key=lambda teacher: teacher['metrics'][metric], default=None)
