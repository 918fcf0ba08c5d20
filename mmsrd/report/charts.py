"""Charts of a report, as SVG that takes its colours from the page it is in."""
from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from typing import Any, Sequence

from .comparison import Group, mean_curve
from .run_log import Curve, RunLog

SERIES = 8
"""Colours of lines, ``--series-0`` and so on in the page; then they begin again, with dashes."""
ITERATION = 'iteration'
POINTS = 300
"""Most points of a line; of more, neighbours are averaged."""
# Colours that nobody would choose, replaced by names of the page's colours in what has been drawn.
INK, GRID = '#f000e0', '#f000e1'
_NAMES = {INK: 'var(--ink-2)', GRID: 'var(--line)', **{f'#f000d{i}': f'var(--series-{i})' for i in range(SERIES)}}


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: For the legend; none where it is empty.
        points: (x, y) pairs.
        series: Number of its colour.
        band: Smallest and largest y at each point, drawn as an area; None for none.
        faint: Whether it is one of several whose mean is another line.
    """

    name: str
    points: Curve
    series: int = 0
    band: Sequence[tuple[float, float]] | None = None
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its heading and its note.

    Attributes:
        title: Heading.
        lines: Its lines.
        x: Name of the horizontal axis.
        note: A sentence for those who read it for the first time.
        level: Name and height of a horizontal line; None for none.
        logarithmic: Whether the vertical axis may be.
    """

    title: str
    lines: Sequence[Line]
    x: str = ITERATION
    note: str = ''
    level: tuple[str, float] | None = None
    logarithmic: bool = False

    def svg(self) -> str:
        """Return the drawing; needs matplotlib, as MMEngine does."""
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        style: Any = {'svg.fonttype': 'none', 'svg.hashsalt': self.title, 'font.size': 10, 'text.color': INK,
                 'axes.edgecolor': GRID, 'axes.labelcolor': INK, 'xtick.color': GRID, 'ytick.color': GRID,
                 'xtick.labelcolor': INK, 'ytick.labelcolor': INK, 'grid.color': GRID, 'grid.linewidth': 0.6,
                 'axes.spines.top': False, 'axes.spines.right': False, 'axes.spines.left': False,
                 'axes.grid': True, 'axes.grid.axis': 'y'}
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(4.6, 2.8), layout='constrained')
            FigureCanvasSVG(figure)
            axes = figure.add_subplot()
            for line in self.lines:
                _draw(axes, line)
            if self.level is not None:
                axes.axhline(self.level[1], color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
            if self.logarithmic and _spans_decades(self.lines):
                axes.set_yscale('log')
            axes.set_xlabel(self.x)
            if self.x == ITERATION:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.margins(x=0.01)
            file = io.StringIO()
            figure.savefig(file, format='svg', transparent=True, metadata={'Date': None})
        return _for_page(file.getvalue(), self.title)


def _draw(axes: Any, line: Line) -> None:
    points, band = _averaged(line)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    colour = f'#f000d{line.series % SERIES}'
    axes.plot(xs, ys, color=colour, linewidth=0.8 if line.faint else 1.8, alpha=0.5 if line.faint else 1,
              linestyle='-' if line.series < SERIES else '--', marker='o' if len(xs) < 30 and not line.faint else '',
              markersize=3)
    if band:
        axes.fill_between(xs, [low for low, _ in band], [high for _, high in band], color=colour, alpha=0.18,
                          linewidth=0)


def _averaged(line: Line) -> tuple[Curve, list[tuple[float, float]]]:
    size = -(-len(line.points) // POINTS) or 1

    def mean(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        groups = [pairs[i:i + size] for i in range(0, len(pairs), size)]
        return [(sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group)) for group in groups]
    return mean(line.points), mean(line.band or [])


def _spans_decades(lines: Sequence[Line]) -> bool:
    values = [y for line in lines for _, y in line.points if y > 0]
    return bool(values) and max(values) / min(values) > 100


def _for_page(svg: str, title: str) -> str:
    svg = svg[svg.index('<svg'):]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([0-9.]+px) [^;\"]*", r'font-size: \1', svg)
    for colour, name in _NAMES.items():
        svg = svg.replace(colour, name)
    head = f'role="img" aria-label="{html.escape(title)}"'
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: f'<svg {found[1]} {head}>', svg, count=1)


def metric_chart(groups: Sequence[Group], teacher: float | None, unit: str, in_time: bool = False) -> Chart:
    """Return the chart of a metric; of a group with several runs, it has their mean and range.

    Args:
        groups: Groups of runs, all of one metric.
        teacher: Height of the teacher's line in points; None for none.
        unit: Unit of the metric, for the note; empty for no note.
        in_time: Whether the horizontal axis is time, instead of iterations.
    """
    lines = []
    for series, group in enumerate(groups):
        curves = group.curves(in_time)
        if len(curves) > 1:
            lines += [Line(group.name if in_time and curve is curves[0] else '', curve, series, faint=True)
                      for curve in curves]
        if len(curves) == 1 or not in_time:  # points in time of several runs do not meet
            lines += _mean_line(group.name, curves, series)
    where = 'minutes of training' if in_time else ITERATION
    return Chart(f'{groups[0].metric} by {"training time" if in_time else "iteration"}', lines, where,
                 f'In {unit}.' if unit else '', None if teacher is None else ('teacher', teacher))


def loss_charts(runs: Sequence[RunLog], baselines: Sequence[RunLog]) -> list[Chart]:
    """Return charts of the student's own losses, and of those of the distiller."""
    own = [line for series, (name, group) in enumerate((('distilled', runs), ('student alone', baselines)))
           for line in _mean_line(name, [run.own_loss() for run in group if run.training], series)]
    return [Chart('Losses of the student', own, note='Sum of all losses but those of distillation.'),
            _by_name('Distillation losses', runs, 'loss_srd_', "As added to the student's own losses.")]


def level_charts(runs: Sequence[RunLog]) -> list[Chart]:
    """Return charts of the scalars by level, of the distiller and, where it is on, ``ProjectorDiagnosticsHook``."""
    alignment = _by_name('Alignment by level', runs, 'srd_level_alignment/',
                         'Correlation of student and teacher: 1 where they agree, 0 where they are unrelated.')
    if not alignment.lines:
        alignment = _by_name('Alignment', runs, 'srd_alignment_', alignment.note)
    balance = _by_name('Balance by level', runs, 'srd_balance/', 'Factor by which the gradient of a loss is '
                       "scaled at each level, so that its norm fits that of the student's own losses.", True)
    if not balance.lines:
        balance = _by_name('Balance', runs, 'srd_balance_', balance.note, True)
    return [alignment, balance,
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
             for line in _mean_line(name, [curves[name] for curves in found if name in curves], series)]
    return Chart(title, lines, note=note, logarithmic=logarithmic)


def _mean_line(name: str, curves: Sequence[Curve], series: int) -> list[Line]:
    points, band = mean_curve(curves)
    return [Line(name, points, series, band if len(curves) > 1 else None)] if points else []
