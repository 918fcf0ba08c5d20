"""``write_report``: the page of one or several distilled trainings."""
from __future__ import annotations

import time
from itertools import takewhile
from pathlib import Path
from typing import Mapping, Sequence

from ..utils.files import write_whole
from .comparison import Comparison, Group, main_metric, mean_and_spread, scale_of
from .notes import NOTES, ReportNotes
from .page import page
from .panels import level_charts, loss_charts, metric_chart
from .run_log import LOGS, RunLog

PAGE = 'distill_report/index.html'
"""Where the page of a training is, seen from its work directory."""


def write_report(runs: Sequence[RunLog], out: Path, baselines: Sequence[RunLog] = (), metric: str | None = None
                 ) -> None:
    """Write the page of runs that differ in their seed, or of one.

    Args:
        runs: With distillation.
        out: File of the page.
        baselines: Runs of the student alone.
        metric: Name of the metric that it is about; None for the main one that was logged.

    Example:
        >>> from pathlib import Path
        >>> from mmsrd.report import RunLog, write_report
        >>> write_report([RunLog('work_dirs/srd_retinanet')], Path('report.html'))  # doctest: +SKIP
    """
    notes = ReportNotes.read(runs[0].work_dir)
    metric = metric or main_metric([*runs, *baselines])
    charts, tiles, hints = [], [], []
    tables: list[tuple[str, Sequence[Sequence[str]]]] = []
    if metric is not None:
        best = notes.best_teacher(metric)
        scale = scale_of(metric, _values_of(metric, [*runs, *baselines], notes))
        groups = [Group(name, group, metric, scale)
                  for name, group in (('distilled', runs), ('student alone', baselines)) if group]
        teacher = None if best is None else best['metrics'][metric] * scale
        charts.append(metric_chart(groups, teacher, 'points (0 to 100)' if scale > 1 else ''))
        if baselines:
            charts.append(metric_chart(groups, teacher, '', in_time=True))
        tiles = _tiles(groups, teacher, 0 if best is None else best['images'])
        tables.append(('Results', _results(groups, notes)))
        if not groups[0].curves():
            known = sorted({name for run in runs for validation in run.validations for name in validation.metrics})
            hints.append(f'No validation has {metric!r}; known metrics: {", ".join(known) or "none"}.')
    charts += [*loss_charts(runs, baselines), *level_charts(runs)]
    tables += [('What is compared', [notes.header, *notes.plan]),
               ('Teachers', [('teacher', 'weights'), *((teacher['config'], teacher['checkpoint'])
                                                       for teacher in notes.teachers)])]
    if not any(run.training for run in runs):
        hints.append(f"No curves: {LOGS} has no training iteration yet. Curves need dict(type='LocalVisBackend') in "
                     'visualizer.vis_backends.')
    steps = max((run.training[-1]['step'] for run in runs if run.training), default=0)
    several = f'{len(runs)} runs, ' if len(runs) > 1 else ''
    name = runs[0].name if len(runs) == 1 else runs[0].work_dir.resolve().parent.name
    text = page(f'Distillation report: {notes.title or name}',
                f'{several}{steps} iterations; written {time.strftime("%Y-%m-%d %H:%M")}', tiles, charts, tables, notes,
                (runs[0].work_dir / NOTES).parent, hints)
    write_whole(out, text)


def _tiles(groups: Sequence[Group], teacher: float | None, images: int) -> list[tuple[str, str, str]]:
    distilled = groups[0]
    tiles = [('Student, distilled', mean_and_spread(distilled.last()),
              f'{distilled.metric}, last; best {mean_and_spread(distilled.best())}')]
    if len(groups) > 1:
        compared = Comparison(*groups)
        tiles.append(('Student alone', mean_and_spread(groups[1].last()),
                      f'last; best {mean_and_spread(groups[1].best())}'))
        tiles.append(('Gain', mean_and_spread(compared.gain(), sign=True), 'points at equal iterations'))
        tiles.append(('Gain in equal time', mean_and_spread(compared.gain(in_time=True), sign=True),
                      'points at equal training time'))
        matched, cost = compared.time_to_match(), compared.cost_of_step()
        tiles.append(('Time to match', f'{matched:.0%}' if matched is not None else 'not yet',
                      "of the baseline's training time, until the distilled student reaches its final result"))
        if cost is not None:
            tiles.append(('Time of a step', f'× {cost:.2f}', 'of a step of the student alone'))
    if teacher is not None:
        tiles.append(('Teacher', f'{teacher:.1f}', f'on {images} validation images'))
    return tiles


def _results(groups: Sequence[Group], notes: ReportNotes) -> list[tuple[str, ...]]:
    """The last validation of each run, by metric."""
    names = list(dict.fromkeys(name for group in groups for run in group.runs for validation in run.validations[-1:]
                               for name in validation.metrics))
    rows: list[tuple[str, ...]] = [('last validation', *names)]
    all_runs = [run for group in groups for run in group.runs]
    scales = {name: scale_of(name, _values_of(name, all_runs, notes)) for name in names}
    for group in groups:
        for run in group.runs:
            known = run.validations[-1].metrics if run.validations else {}
            label = f'{group.name}: {run.name}' if len(group.runs) > 1 else group.name
            rows.append((label, *(_cell(known, name, scales[name]) for name in names)))
    for teacher in notes.teachers:
        if teacher.get('metrics'):
            cells = (_cell(teacher['metrics'], name, scales[name]) for name in names)
            rows.append((f'teacher {teacher["name"]}'.strip(), *cells))
    return rows


def _values_of(metric: str, runs: Sequence[RunLog], notes: ReportNotes) -> list[float]:
    """All known values of a metric, of the students and the teachers."""
    return [value for run in runs for _, value in run.metric(metric)] + [
        teacher['metrics'][metric] for teacher in notes.teachers if metric in teacher.get('metrics', {})]


def _cell(metrics: Mapping[str, float], name: str, scale: float) -> str:
    value = metrics.get(name, -1)
    return '–' if value < 0 else f'{value * scale:.1f}'  # -1: there is no object of that kind


def names_of(work_dirs: Sequence[Path]) -> list[str]:
    """What tells work directories apart: their paths without what all begin and end with.

    Example:
        >>> from pathlib import Path
        >>> from mmsrd.report.write_report import names_of
        >>> names_of([Path('/a/seed0/x'), Path('/a/seed1/x')])
        ['seed0', 'seed1']
    """
    parts = [path.resolve().parts for path in work_dirs]
    start = _shared(parts)
    end = _shared([p[start:][::-1] for p in parts])
    return ['/'.join(p[start:len(p) - end]) or path.name for p, path in zip(parts, work_dirs)]


def _shared(sequences: Sequence[Sequence[str]]) -> int:
    """How many items all begin with."""
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*sequences)))
