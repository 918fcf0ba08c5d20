"""Line charts as SVG that takes its colours from the page it is in."""
from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from typing import Any, Sequence

from .run_log import Curve

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
    """A chart and what is said beside it.

    Attributes:
        title: What it shows.
        lines: Its lines.
        x: What the horizontal axis is.
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
        """The drawing; needs matplotlib, as MMEngine does."""
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
    points, band = _thinned(line)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    colour = f'#f000d{line.series % SERIES}'
    axes.plot(xs, ys, color=colour, linewidth=0.8 if line.faint else 1.8, alpha=0.5 if line.faint else 1,
              linestyle='-' if line.series < SERIES else '--', marker='o' if len(xs) < 30 and not line.faint else '',
              markersize=3)
    if band:
        axes.fill_between(xs, [low for low, _ in band], [high for _, high in band], color=colour, alpha=0.18,
                          linewidth=0)


def _thinned(line: Line) -> tuple[Curve, list[tuple[float, float]]]:
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
