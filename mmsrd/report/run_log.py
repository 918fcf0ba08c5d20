"""``RunLog``: what MMEngine has logged in a work directory."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from ..errors import MMSRDError

Curve = List[Tuple[float, float]]
Record = Dict[str, Any]
LOGS = '*/vis_data/scalars.json'
SPECTRA = 'projector_spectra.jsonl'
"""File beside it in which :class:`mmsrd.ProjectorDiagnosticsHook` writes all singular values: too many for scalars."""


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
    """A training from its first start on, resumes included, as ``LocalVisBackend`` has written it down.

    Args:
        work_dir: Work directory of the training.
        name: What it is called in a report.

    Attributes:
        training: Records of training iterations; ``iter`` is in each.
        levels: Records of the distiller alone, values by level among them.
        validations: Validations.
        spectra: Singular values by projector at the last look at them; empty where there was none.

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
        self._clock: list[float] = []  # seconds at each record of training
        self._pace = 0.0  # seconds of an iteration in the newest one, without a validation
        for path in sorted(self.work_dir.glob(LOGS)):
            self._add(_records(path))
            moments = _records(path.with_name(SPECTRA)) if path.with_name(SPECTRA).is_file() else []
            self.spectra = next((moment['spectra'] for moment in moments[::-1] if moment['spectra']), self.spectra)

    @classmethod
    def from_work_dir(cls, work_dir: str | Path, name: str = '') -> RunLog:
        """As the class itself, for a directory that has to have something in it.

        Raises:
            MMSRDError: Nothing was logged there.
        """
        log = cls(work_dir, name)
        if not log.training and not log.validations:
            raise MMSRDError(f'{work_dir}: nothing was logged there ({LOGS}); is it the work directory of a training '
                             "with dict(type='LocalVisBackend') among the backends of its visualizer?")
        return log

    def _add(self, records: list[Record]) -> None:
        """Go on with the log of another start; what was done twice counts once."""
        start = next((record['step'] for record in records if 'iter' in record), None)
        if start is not None:
            self.training = [record for record in self.training if record['step'] < start]
            self._clock = self._clock[:len(self.training)]
            self.levels = [record for record in self.levels if record['step'] < start]
            self.validations = [validation for validation in self.validations if validation.step < start]
        for record in records:
            if 'iter' in record:
                self._tick(record)
                self.training.append(record)
            elif any(key.startswith('srd_') for key in record):
                self.levels.append(record)
            elif 'time' in record:
                # Counted in epochs or in iterations, of which there are never less.
                step = max(record['step'], self.training[-1]['step'] if self.training else 0)
                metrics = {key: float(value) for key, value in record.items()
                           if key not in ('step', 'time', 'data_time') and isinstance(value, (int, float))}
                self.validations.append(Validation(step, self.seconds, metrics))

    def _tick(self, record: Record) -> None:
        """Count the time of the iterations that a record is of."""
        before = self.training[-1]['step'] if self.training else 0
        seconds = record.get('time', 0.0)
        if self.validations and self.validations[-1].step >= before:
            # A loop that counts iterations adds the time of the validation, report included, to that of the next one.
            seconds = min(seconds, self._pace or seconds)
        self._pace = seconds
        self._clock.append(self.seconds + seconds * (record['step'] - before))

    @property
    def seconds(self) -> float:
        """Time of all training iterations, without validations."""
        return self._clock[-1] if self._clock else 0.0

    @property
    def seconds_per_step(self) -> float:
        """Mean time of an iteration; 0 where nothing is known."""
        return self.seconds / self.training[-1]['step'] if self.training else 0.0

    def metric(self, name: str, in_time: bool = False) -> Curve:
        """A metric over iterations, or over minutes of training."""
        return [(validation.seconds / 60 if in_time else validation.step, validation.metrics[name])
                for validation in self.validations if name in validation.metrics]

    def curves(self, start: str) -> dict[str, Curve]:
        """Curves over iterations of all scalars whose name starts so, by the rest of the name."""
        curves: dict[str, Curve] = {}
        for record in (*self.levels, *self.training):
            for key, value in record.items():
                if key.startswith(start) and isinstance(value, (int, float)):
                    curves.setdefault(key[len(start):], []).append((record['step'], value))
        return {name: sorted(curve) for name, curve in curves.items()}

    def own_loss(self) -> Curve:
        """The student's own losses together: all but those of the distiller."""
        return [(record['step'], record['loss'] - sum(_of_distiller(record))) for record in self.training
                if 'loss' in record]


def _of_distiller(record: Record) -> Iterable[float]:
    return (value for key, value in record.items() if key.startswith('loss_srd_'))


def _records(path: Path) -> list[Record]:
    """Lines of a file of JSON; a last one that is being written does not count."""
    records = []
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and 'step' in record:
            records.append(record)
    return records
