"""Gain by distillation: groups of runs, and the comparison of two groups."""
from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Iterable, Sequence

import numpy as np

from .run_log import Curve, RunLog

PREFERRED = ('coco/bbox_mAP', 'coco/segm_mAP', 'lvis/bbox_AP', 'accuracy/top1', 'mIoU', 'coco/AP', 'dota/mAP',
             'pascal_voc/mAP')


def main_metric(runs: Sequence[RunLog]) -> str | None:
    """Return the metric that a report is about: the best known one that a run has, else the first; None without any.

    Example:
        >>> from mmsrd.report import main_metric
        >>> main_metric([]) is None
        True
    """
    names = [name for run in runs for validation in run.validations[-1:] for name in validation.metrics]
    return next((name for name in PREFERRED if name in names), names[0] if names else None)


_PERCENTAGES = ('accuracy', 'single-label', 'multi-label', 'retrieval', 'coco_panoptic', 'cityscapes_panoptic')
"""Prefixes of metrics that are percentages; all of MMPretrain's are."""


def scale_of(metric: str, values: Iterable[float] = ()) -> float:
    """Return the factor from a metric to points: 100 for average precision and other fractions, 1 for percentages.

    Args:
        metric: Its name.
        values: Some of its values: one above 1 is no fraction, whatever the name says.

    Example:
        >>> from mmsrd.report.comparison import scale_of
        >>> scale_of('coco/bbox_mAP_50'), scale_of('accuracy/top1'), scale_of('multi-label/mAP'), scale_of('PCKh')
        (100.0, 1.0, 1.0, 1.0)
        >>> scale_of('mine/mAP', [0.4, 0.5]), scale_of('mine/mAP', [0.9, 41.0])
        (100.0, 1.0)
    """
    prefix, _, name = metric.rpartition('/')
    fraction = 'mAP' in name or name.rpartition('_')[2].startswith(('AP', 'AR', 'precision')) or name.startswith((
        'AP', 'AR', 'PCK', 'AUC'))
    percentage = prefix.startswith(_PERCENTAGES) or name.startswith('PCKh') or any(value > 1 for value in values)
    return 100.0 if fraction and not percentage else 1.0


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        name: Name in the report.
        runs: One or more of them.
        metric: Name of the metric, of which more is better.
        scale: Factor from the metric to points, the same in all groups that are compared.
    """

    name: str
    runs: Sequence[RunLog]
    metric: str
    scale: float

    def curves(self, in_time: bool = False) -> list[Curve]:
        """Return the metric in points, a curve for each run that has it; over minutes if ``in_time``."""
        curves = [[(x, value * self.scale) for x, value in run.metric(self.metric, in_time)] for run in self.runs]
        return [curve for curve in curves if curve]

    def last(self) -> list[float]:
        """Return the points of each run's last validation."""
        return [curve[-1][1] for curve in self.curves()]

    def best(self) -> list[float]:
        """Return the points of each run's best validation."""
        return [max(value for _, value in curve) for curve in self.curves()]

    def seconds_per_step(self) -> float:
        """Return the mean time of an iteration."""
        return statistics.fmean(run.seconds_per_step for run in self.runs)


def mean_and_spread(values: Sequence[float], sign: bool = False) -> str:
    """Return the mean as text, with the standard deviation where there are several values.

    Example:
        >>> from mmsrd.report.comparison import mean_and_spread
        >>> mean_and_spread([52.0, 54.0]), mean_and_spread([1.25], sign=True)
        ('53.0 ± 1.4', '+1.2')
    """
    if not values:
        return '–'
    text = f'{statistics.fmean(values):{"+" if sign else ""}.1f}'
    return f'{text} ± {statistics.stdev(values):.1f}' if len(values) > 1 else text


def mean_curve(curves: Sequence[Curve]) -> tuple[Curve, list[tuple[float, float]]]:
    """Return the mean of curves where all have a point, and the smallest and largest value there."""
    known = [dict(curve) for curve in curves]
    xs = [x for x in known[0] if all(x in values for values in known)] if known else []
    columns = [[values[x] for values in known] for x in xs]
    return ([(x, statistics.fmean(column)) for x, column in zip(xs, columns)],
            [(min(column), max(column)) for column in columns])


@dataclass(frozen=True)
class Comparison:
    """Distilled runs beside runs of the student alone.

    Attributes:
        distilled: Runs with distillation.
        alone: Runs without, of the same metric.
    """

    distilled: Group
    alone: Group

    def gain(self, in_time: bool = False) -> list[float]:
        """Return the points that each distilled run has more than the mean of those alone.

        They are compared where the shorter training ends; between validations, points are interpolated.

        Args:
            in_time: Whether to compare after as much time, instead of as many iterations.
        """
        alone, gains = self.alone.curves(in_time), []
        for curve in self.distilled.curves(in_time):
            end = min(other[-1][0] for other in (curve, *alone))
            own, others = _value_at(curve, end), [_value_at(other, end) for other in alone]
            known = [value for value in others if value is not None]
            if own is not None and known:
                gains.append(own - statistics.fmean(known))
        return gains

    def cost_of_step(self) -> float | None:
        """Return the time of a distilled iteration over that of one alone; None where it is not known."""
        alone = self.alone.seconds_per_step()
        return self.distilled.seconds_per_step() / alone if alone else None

    def time_to_match(self) -> float | None:
        """Return the time in which distilled runs reach the final result of those alone, over the time of the latter.

        None where a distilled run does not reach it, or where times are not known.
        """
        distilled, alone = self.distilled.curves(in_time=True), self.alone.curves(in_time=True)
        if not distilled or not alone:
            return None
        goal, total = (statistics.fmean(values) for values in zip(*((y, x) for x, y in (c[-1] for c in alone))))
        reached = [_reaches(curve, goal) for curve in distilled]
        known = [x for x in reached if x is not None]
        return statistics.fmean(known) / total if len(known) == len(reached) and total else None


def _value_at(curve: Curve, x: float) -> float | None:
    """Return the value of a curve at a place; None before it begins."""
    xs, ys = zip(*curve)
    return None if x < xs[0] else float(np.interp(x, xs, ys))


def _reaches(curve: Curve, y: float) -> float | None:
    """Return where a curve is as high as ``y`` for the first time; None where it never is."""
    for (x0, y0), (x1, y1) in zip([curve[0], *curve], curve):
        if y1 >= y:
            return x1 if y1 == y0 else x0 + (x1 - x0) * (y - y0) / (y1 - y0)
    return None
