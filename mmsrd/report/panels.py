"""Which charts a report has, and what is drawn in them."""
from __future__ import annotations

from typing import Sequence

from .charts import ITERATION, Chart, Line
from .comparison import Group, mean_curve
from .run_log import Curve, RunLog


def metric_chart(groups: Sequence[Group], teacher: float | None, unit: str, in_time: bool = False) -> Chart:
    """The metric of all groups; with several runs in one, their mean and the range of them."""
    lines = []
    for series, group in enumerate(groups):
        curves = group.curves(in_time)
        if len(curves) > 1:
            lines += [Line(group.name if in_time and curve is curves[0] else '', curve, series, faint=True)
                      for curve in curves]
        if len(curves) == 1 or not in_time:  # points in time of several runs do not meet
            lines += _mean(group.name, curves, series)
    where = 'minutes of training' if in_time else ITERATION
    return Chart(f'{groups[0].metric} by {"training time" if in_time else "iteration"}', lines, where,
                 f'In {unit}.' if unit else '', None if teacher is None else ('teacher', teacher))


def loss_charts(runs: Sequence[RunLog], baselines: Sequence[RunLog]) -> list[Chart]:
    """The student's own losses, and those of the distiller."""
    own = [line for series, (name, group) in enumerate((('distilled', runs), ('student alone', baselines)))
           for line in _mean(name, [run.own_loss() for run in group if run.training], series)]
    return [Chart('Losses of the student', own, note='Sum of all losses but those of distillation.'),
            _by_name('Distillation losses', runs, 'loss_srd_', "As added to the student's own losses.")]


def level_charts(runs: Sequence[RunLog]) -> list[Chart]:
    """What the distiller and, where it is on, ``ProjectorDiagnosticsHook`` have logged for each level."""
    alignment = _by_name('Alignment by level', runs, 'srd_level_alignment/',
                         'Correlation of student and teacher: 1 where they agree, 0 where they are unrelated.')
    if not alignment.lines:
        alignment = _by_name('Alignment', runs, 'srd_alignment/', alignment.note)
    balance = _by_name('Balance by level', runs, 'srd_balance/', 'Factor of the gradient of a distillation '
                       "loss that matches it, at each level, to the gradient of the student's own losses.")
    by_level = [line for line in balance.lines if '.' in line.name]
    return [alignment, Chart(balance.title, by_level or balance.lines, note=balance.note, logarithmic=True),
            _by_name('Effective rank of the projectors', runs, 'srd_effective_rank/'),
            _by_name('Correlation of projector input and output', runs, 'srd_cross_correlation/', 'Mean absolute value '
                     'over all pairs of channels.'),
            Chart('Singular values of the projectors', [
                Line(name, list(enumerate(values)), series) for run in runs[:1]
                for series, (name, values) in enumerate(run.spectra.items())], 'index', 'At the last measurement.',
                logarithmic=True)]


def _by_name(title: str, runs: Sequence[RunLog], start: str, note: str = '', logarithmic: bool = False) -> Chart:
    found = [run.curves(start) for run in runs]
    names = list(dict.fromkeys(name for curves in found for name in curves))
    lines = [line for series, name in enumerate(names)
             for line in _mean(name, [curves[name] for curves in found if name in curves], series)]
    return Chart(title, lines, note=note, logarithmic=logarithmic)


def _mean(name: str, curves: Sequence[Curve], series: int) -> list[Line]:
    points, band = mean_curve(curves)
    return [Line(name, points, series, band if len(curves) > 1 else None)] if points else []
