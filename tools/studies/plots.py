"""Panels of the method page's pictures: each function returns what fills one axes."""
from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import matplotlib
import pandas as pd
from tables import by_seed, gains, of_row

matplotlib.use('Agg')
import matplotlib.pyplot as plt

Panel = Callable[[Any], None]


def mean_curve(curves: Iterable[Sequence[Sequence[float]]]) -> pd.DataFrame:
    """Mean (``mean``) and standard deviation (``std``, 0 of one curve) by step of curves over the same steps."""
    return pd.DataFrame([dict(curve) for curve in curves]).agg(['mean', 'std']).T.fillna(0)


def draw(path: Path, panels: Sequence[tuple[str, Panel]], height: float = 3.6, share: bool = False,
         width: float = 5) -> None:
    """A figure with one titled panel of that width beside the other; ``share``: one horizontal scale."""
    figure, axes = plt.subplots(1, len(panels), figsize=(width * len(panels), height), layout='constrained',
                                squeeze=False, sharex=share)
    for axis, (title, fill) in zip(axes[0], panels):
        fill(axis)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def labelled(axis: Any, x: str, y: str, size: int = 8) -> None:
    """Names of the axes, and a legend where something is drawn."""
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if axis.lines:
        axis.legend(fontsize=size)


def learning(results: pd.DataFrame, rows: dict[str, tuple[str, str]]) -> Panel:
    """Learning curves, label → (data set, row)."""
    def fill(axis: Any) -> None:
        for label, of in rows.items():
            found = of_row(results, *of)
            if len(found):
                _band(axis, 100 * mean_curve(found['curve']), f'{label} ({len(found)})')
        labelled(axis, 'iteration', 'mAP (%)')
    return fill


def _band(axis: Any, curve: pd.DataFrame, label: str) -> None:
    line, = axis.plot(curve['mean'], marker='.', label=label)
    axis.fill_between(curve.index, curve['mean'] - curve['std'], curve['mean'] + curve['std'], alpha=0.15,
                      color=line.get_color())


def bars(results: pd.DataFrame, rows: Sequence[str], dataset: str, alone: tuple[str, str], metric: str,
         scale: float) -> Panel:
    """Gain over the student alone: a bar for the mean, a dot for each seed, in brackets their number."""
    def fill(axis: Any) -> None:
        base = by_seed(results, *alone, metric)
        shown = [(row, scale * found) for row in rows
                 if len(found := gains(by_seed(results, dataset, row, metric), base))]
        for i, (_, found) in enumerate(reversed(shown)):
            axis.barh(i, found.mean(), color='tab:blue', alpha=0.5)
            axis.plot(found, [i] * len(found), 'k.', markersize=5)
        axis.axvline(0, color='black', linewidth=0.8)
        axis.set_yticks(range(len(shown)), [f'{row} ({len(found)})' for row, found in reversed(shown)], fontsize=8)
        axis.set_xlabel('points over the student alone, by seed')
    return fill


def pairs_bars(results: pd.DataFrame, pairs: Sequence[Any]) -> Panel:
    """Bars of the student alone, the usual loss and the preset for each ``SummaryPair``, and a mark at the teacher."""
    def fill(axis: Any) -> None:
        shown = [pair for pair in pairs if len(of_row(results, pair.dataset, pair.preset))]
        for i, pair in enumerate(reversed(shown)):
            rows = (('student alone', pair.alone, '#c9c9c9'),
                    (f'{pair.usual}, published weight', (pair.dataset, pair.usual), '#8fb8d8'),
                    ('mmsrd preset', (pair.dataset, pair.preset), '#1f5f99'))
            for place, (label, of, colour) in enumerate(rows):
                values = pair.scale * by_seed(results, *of, pair.metric)
                if len(values):
                    mean = statistics.mean(values)
                    axis.barh(i + 0.26 * (1 - place), mean, 0.25, color=colour, label=label)
                    axis.text(mean + 0.5, i + 0.26 * (1 - place), f'{mean:.1f}', va='center', fontsize=8)
            own = pair.scale * by_seed(results, *pair.own, pair.metric).mean()
            axis.plot([own, own], [i - 0.4, i + 0.4], color='black', linewidth=1.5, label='teacher')
        axis.set_yticks(range(len(shown)), [f'{pair.teacher} → {pair.student}' for pair in reversed(shown)], fontsize=9)
        axis.set_ylim(-0.6, len(shown) - 0.4)
        handles = dict(zip(*reversed(axis.get_legend_handles_labels())))  # one of each label
        axis.legend(handles.values(), handles, loc='upper left', bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
    return fill


def spectra(results: pd.DataFrame, dataset: str, rows: dict[str, str], projector: str) -> Panel:
    """Singular values at the last look over the largest, a curve for each seed."""
    def fill(axis: Any) -> None:
        for colour, (row, label) in enumerate(rows.items()):
            found = of_row(results, dataset, row).get(f'spectra.{projector}', pd.Series(dtype=object)).dropna()
            for i, values in enumerate(found):
                axis.semilogy([max(value / values[0], 1e-5) for value in values], color=f'C{colour}', alpha=0.7,
                              label=None if i else label)
        labelled(axis, 'index', 'singular value / largest')
    return fill


def diagnostic(results: pd.DataFrame, dataset: str, rows: dict[str, str], name: str, label: str) -> Panel:
    """A diagnostic over training, mean over the seeds."""
    def fill(axis: Any) -> None:
        for row, title in rows.items():
            found = of_row(results, dataset, row).get(f'diagnostics.{name}', pd.Series(dtype=object)).dropna()
            if len(found):
                _band(axis, mean_curve(found), title)
        labelled(axis, 'iteration', label)
    return fill


def gradients(results: pd.DataFrame, dataset: str, row: str, loss: str, strides: Sequence[int],
              weight: float | None) -> Panel:
    """Norms of gradients at each level over training: of the task, and of what the loss sends into the student.

    ``weight``: that of the loss; None where it has a balance, whose factors are taken instead.
    """
    def fill(axis: Any) -> None:
        for colour, (stride, norms) in enumerate(zip(strides, _norms(results, dataset, row, loss, len(strides)))):
            axis.semilogy(norms.task, color=f'C{colour}', label=f'stride {stride}, task')
            sent = norms.sent if weight is None else weight * norms.distill
            axis.semilogy(sent, '--', color=f'C{colour}', label=f'stride {stride}, distillation')
        labelled(axis, 'iteration', 'norm of the gradient', 7)
    return fill


def factors(results: pd.DataFrame, dataset: str, row: str, loss: str, strides: Sequence[int], weight: float) -> Panel:
    """Factors of a balance at each level over training, beside a constant weight."""
    def fill(axis: Any) -> None:
        for stride, norms in zip(strides, _norms(results, dataset, row, loss, len(strides))):
            axis.semilogy(norms.factor, label=f'stride {stride}')
        axis.axhline(weight, color='black', linestyle=':', label=f'constant weight {weight:g}')
        labelled(axis, 'iteration', 'effective weight', 7)
    return fill


def _norms(results: pd.DataFrame, dataset: str, row: str, loss: str, levels: int) -> list[pd.DataFrame]:
    """For each level and step means over the seeds of four norms or factors, where they are recorded.

    They are the norm of the task's gradient, of the loss's, of the loss's times its factor, and the factor. Records
    before 2026-11-26 have four decimals, which make 0 of a level without objects: they are left out.
    """
    found = of_row(results, dataset, row)
    last = found.get(f'diagnostics.srd_task_norm/{loss}.{levels - 1}', pd.Series(dtype=object)).dropna()
    exact = [seed for seed, curve in last.items() if min(value for _, value in curve) > 0]
    means = []
    for level in range(levels if exact else 0):
        looks = []
        for seed in exact:
            curves = {what: found.loc[seed].get(f'diagnostics.srd_{name}/{loss}.{level}')
                      for what, name in (('task', 'task_norm'), ('distill', 'distill_norm'), ('factor', 'balance'))}
            look = pd.DataFrame({what: dict(curve) for what, curve in curves.items() if isinstance(curve, list)})
            look['factor'] = look.get('factor', 1.0)
            looks.append(look.assign(sent=look.distill * look.factor))
        means.append(pd.concat(looks).groupby(level=0).mean())
    return means
