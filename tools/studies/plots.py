"""Panels of the method page's pictures: each function returns what fills one axes."""
from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import matplotlib
from study import Records, by_seed, gains, of_row

matplotlib.use('Agg')
import matplotlib.pyplot as plt

Panel = Callable[[Any], None]


def mean_curve(curves: Iterable[Sequence[Sequence[float]]]) -> tuple[list[float], list[float], list[float]]:
    """Steps, means and standard deviations (0 for one curve) of curves over the same steps."""
    columns = list(zip(*curves))
    values = [[point[1] for point in column] for column in columns]
    return ([column[0][0] for column in columns], [statistics.mean(v) for v in values],
            [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values])


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


def learning(records: Records, rows: dict[str, tuple[str, str]]) -> Panel:
    """Learning curves, label → (data set, row)."""
    def fill(axis: Any) -> None:
        for label, (dataset, row) in rows.items():
            if found := of_row(records, dataset, row):
                _band(axis, mean_curve(r['curve'] for r in found), f'{label} ({len(found)})', 100)
        axis.set_xlabel('iteration')
        axis.set_ylabel('mAP (%)')
        if axis.lines:
            axis.legend(fontsize=8)
    return fill


def _band(axis: Any, curve: tuple[list[float], list[float], list[float]], label: str, scale: float = 1) -> None:
    steps, means, deviations = curve
    low, high = ([scale * (m + sign * d) for m, d in zip(means, deviations)] for sign in (-1, 1))
    line, = axis.plot(steps, [scale * m for m in means], marker='.', label=label)
    axis.fill_between(steps, low, high, alpha=0.15, color=line.get_color())


def bars(records: Records, rows: Sequence[str], dataset: str, alone: tuple[str, str], metric: str,
         scale: float) -> Panel:
    """Gain over the student alone: a bar for the mean, a dot for each seed, in brackets their number."""
    def fill(axis: Any) -> None:
        base = by_seed(records, *alone, metric)
        shown = [(row, found) for row in rows if (found := gains(by_seed(records, dataset, row, metric), base))]
        for i, (_, found) in enumerate(reversed(shown)):
            axis.barh(i, scale * statistics.mean(found), color='tab:blue', alpha=0.5)
            axis.plot([scale * gain for gain in found], [i] * len(found), 'k.', markersize=5)
        axis.axvline(0, color='black', linewidth=0.8)
        axis.set_yticks(range(len(shown)), [f'{row} ({len(found)})' for row, found in reversed(shown)], fontsize=8)
        axis.set_xlabel('points over the student alone, by seed')
    return fill


def results(records: Records, pairs: Sequence[Any]) -> Panel:
    """Bars of the student alone, of the usual loss and of the preset for each pair, and a mark at the teacher.

    Args:
        records: Of the study.
        pairs: :class:`~method_tables.SummaryPair` of that study.
    """
    def fill(axis: Any) -> None:
        shown = [pair for pair in pairs if of_row(records, pair.dataset, pair.preset)]
        for i, pair in enumerate(reversed(shown)):
            rows = (('student alone', pair.alone, '#c9c9c9'),
                    (f'{pair.usual}, published weight', (pair.dataset, pair.usual), '#8fb8d8'),
                    ('mmsrd preset', (pair.dataset, pair.preset), '#1f5f99'))
            for place, (label, of, colour) in enumerate(rows):
                values = [pair.scale * value for value in by_seed(records, *of, pair.metric).values()]
                if values:
                    mean = statistics.mean(values)
                    axis.barh(i + 0.26 * (1 - place), mean, 0.25, color=colour, label=label)
                    axis.text(mean + 0.5, i + 0.26 * (1 - place), f'{mean:.1f}', va='center', fontsize=8)
            own = pair.scale * statistics.mean(by_seed(records, *pair.own, pair.metric).values())
            axis.plot([own, own], [i - 0.4, i + 0.4], color='black', linewidth=1.5, label='teacher')
        axis.set_yticks(range(len(shown)), [f'{pair.teacher} → {pair.student}' for pair in reversed(shown)], fontsize=9)
        axis.set_ylim(-0.6, len(shown) - 0.4)
        handles = dict(zip(*reversed(axis.get_legend_handles_labels())))  # one of each label
        axis.legend(handles.values(), handles, loc='upper left', bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
    return fill


def spectra(records: Records, dataset: str, rows: dict[str, str], projector: str) -> Panel:
    """Singular values at the last look over the largest, a curve for each seed."""
    def fill(axis: Any) -> None:
        for colour, (row, label) in enumerate(rows.items()):
            for i, record in enumerate(r for r in of_row(records, dataset, row) if r.get('spectra')):
                values = record['spectra'][projector]
                axis.semilogy([max(value / values[0], 1e-5) for value in values], color=f'C{colour}', alpha=0.7,
                              label=None if i else label)
        axis.set_xlabel('index')
        axis.set_ylabel('singular value / largest')
        if axis.lines:
            axis.legend(fontsize=8)
    return fill


def diagnostic(records: Records, dataset: str, rows: dict[str, str], name: str, label: str) -> Panel:
    """A diagnostic over training, mean over the seeds."""
    def fill(axis: Any) -> None:
        for row, title in rows.items():
            if found := [r for r in of_row(records, dataset, row) if name in r.get('diagnostics', {})]:
                _band(axis, mean_curve(r['diagnostics'][name] for r in found), title)
        axis.set_xlabel('iteration')
        axis.set_ylabel(label)
        if axis.lines:
            axis.legend(fontsize=8)
    return fill


def gradients(records: Records, dataset: str, row: str, loss: str, strides: Sequence[int],
              weight: float | None) -> Panel:
    """Norms of gradients at each level over training: of the task, and of what the loss sends into the student.

    ``weight``: that of the loss; None where it has a balance, whose factors are taken instead.
    """
    def fill(axis: Any) -> None:
        for colour, (stride, norms) in enumerate(zip(strides, _norms(records, dataset, row, loss, len(strides)))):
            steps, task, distill, sent, _ = norms
            axis.semilogy(steps, task, color=f'C{colour}', label=f'stride {stride}, task')
            sent = sent if weight is None else [weight * value for value in distill]
            axis.semilogy(steps, sent, '--', color=f'C{colour}', label=f'stride {stride}, distillation')
        axis.set_xlabel('iteration')
        axis.set_ylabel('norm of the gradient')
        if axis.lines:
            axis.legend(fontsize=7)
    return fill


def factors(records: Records, dataset: str, row: str, loss: str, strides: Sequence[int], weight: float) -> Panel:
    """Factors of a balance at each level over training, beside a constant weight."""
    def fill(axis: Any) -> None:
        for stride, norms in zip(strides, _norms(records, dataset, row, loss, len(strides))):
            axis.semilogy(norms[0], norms[4], label=f'stride {stride}')
        axis.axhline(weight, color='black', linestyle=':', label=f'constant weight {weight:g}')
        axis.set_xlabel('iteration')
        axis.set_ylabel('effective weight')
        axis.legend(fontsize=7)
    return fill


def _norms(records: Records, dataset: str, row: str, loss: str, levels: int) -> list[list[list[float]]]:
    """For each level: steps, and means over the seeds of four norms or factors, where they are recorded.

    They are the norm of the task's gradient, of the loss's, of the loss's times its factor, and the factor. Records
    before 2026-11-26 have four decimals, which make 0 of a level without objects: they are left out.
    """
    last = f'srd_task_norm/{loss}.{levels - 1}'
    found = [r['diagnostics'] for r in of_row(records, dataset, row)
             if min((value for _, value in r.get('diagnostics', {}).get(last, [])), default=0) > 0]
    curves = []
    for level in range(levels if found else 0):
        of_seeds: list[list[list[list[float]]]] = [[], [], [], []]
        for logged in found:
            task, distill = (logged[f'srd_{what}_norm/{loss}.{level}'] for what in ('task', 'distill'))
            factor = logged.get(f'srd_balance/{loss}.{level}') or [[step, 1.0] for step, _ in task]
            sent = [[step, norm * by] for (step, norm), (_, by) in zip(distill, factor)]
            for curve, of_seed in zip((task, distill, sent, factor), of_seeds):
                of_seed.append(curve)
        curves.append([mean_curve(of_seeds[0])[0], *(mean_curve(each)[1] for each in of_seeds)])
    return curves
