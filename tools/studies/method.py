#!/usr/bin/env python
"""Pictures and tables of docs/method.md, from the records of the studies.

``python tools/studies/method.py`` reads ``docs/results/{detection,classification}.jsonl`` and writes
``docs/pictures/*.png`` and the tables between the marks of ``docs/method.md``.
"""
from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import classification
import detection
import matplotlib
from runs import ROOT, recorded
from study import Records, between, by_seed, gains, spread

matplotlib.use('Agg')
import matplotlib.pyplot as plt

PAGE = Path('docs/method.md')
PICTURES = Path('docs/pictures')
FCOS, DIGITS = 'reduced/fcos_fcos', 'digits'
# Part, row of the batch-normalised linear projector's study, and name of its projectors.
LINEAR = 'SRD'
NORMS = {LINEAR: 'batch', 'SRD, L2 normalisation': 'L2', 'SRD, no normalisation': 'none'}
SIZES = {LINEAR: 'linear', 'SRD, projector of 2 layers': '2 layers', 'SRD, projector of 3 layers': '3 layers'}
ALIVE = 0.01
"""A singular value counts as alive above this share of the largest."""


def of_row(records: Records, dataset: str, row: str) -> list[dict[str, Any]]:
    """Records of all seeds of a row."""
    return [record for job, record in records.items() if (job.dataset, job.row) == (dataset, row)]


def mean_curve(curves: Iterable[Sequence[Sequence[float]]]) -> tuple[list[float], list[float], list[float]]:
    """Steps, means and standard deviations (0 for one curve) of curves over the same steps."""
    columns = list(zip(*curves, strict=True))
    values = [[point[1] for point in column] for column in columns]
    return ([column[0][0] for column in columns], [statistics.mean(v) for v in values],
            [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values])


def alive(spectra: dict[str, list[float]]) -> list[int]:
    """Number of singular values above :data:`ALIVE` of the largest, for each projector."""
    return [sum(value > ALIVE * max(values) for value in values) for values in spectra.values()]


def last(record: dict[str, Any], start: str) -> float:
    """Mean over the projectors of the last value of a diagnostic."""
    return statistics.mean(curve[-1][1] for name, curve in record['diagnostics'].items() if name.startswith(start))


def diagnostics_table(records: Records, dataset: str, rows: dict[str, str], what: str) -> str:
    """Markdown table of what the projectors were like at the end of training, one line for each row."""
    lines = [f'| {what} | seeds | singular values above {ALIVE:.0%} of the largest | effective rank '
             '| mean correlation of input and output |', '|---|---|---|---|---|']
    for row, label in rows.items():
        found = [record for record in of_row(records, dataset, row) if record.get('spectra')]
        if not found:
            continue
        size = len(next(iter(found[0]['spectra'].values())))
        cells = (label, str(len(found)),
                 f'{spread([statistics.mean(alive(r["spectra"])) for r in found], digits=1)} of {size}',
                 spread([last(r, 'srd_effective_rank/') for r in found], digits=1),
                 spread([last(r, 'srd_cross_correlation/') for r in found], digits=3))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def draw(path: Path, panels: Sequence[tuple[str, Callable[[Any], None]]], height: float = 3.6) -> None:
    """A figure with one titled panel beside the other."""
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), height), layout='constrained', squeeze=False)
    for axis, (title, fill) in zip(axes[0], panels, strict=True):
        fill(axis)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def learning(records: Records, rows: dict[str, tuple[str, str]]) -> Callable[[Any], None]:
    """Learning curves, label → (data set, row)."""
    def fill(axis: Any) -> None:
        for label, (dataset, row) in rows.items():
            if found := of_row(records, dataset, row):
                _band(axis, mean_curve(r['curve'] for r in found), f'{label} ({len(found)})', 100)
        axis.set_xlabel('iteration')
        axis.set_ylabel('mAP (%)')
        axis.legend(fontsize=8)
    return fill


def _band(axis: Any, curve: tuple[list[float], list[float], list[float]], label: str, scale: float = 1) -> None:
    steps, means, deviations = curve
    low, high = ([scale * (m + sign * d) for m, d in zip(means, deviations, strict=True)] for sign in (-1, 1))
    line, = axis.plot(steps, [scale * m for m in means], marker='.', label=label)
    axis.fill_between(steps, low, high, alpha=0.15, color=line.get_color())


def bars(records: Records, rows: Sequence[str], dataset: str, alone: tuple[str, str], metric: str,
         scale: float) -> Callable[[Any], None]:
    """Gain over the student alone: a bar for the mean, a dot for each seed."""
    def fill(axis: Any) -> None:
        base = by_seed(records, *alone, metric)
        shown = [(row, found) for row in rows if (found := gains(by_seed(records, dataset, row, metric), base))]
        for i, (_, found) in enumerate(reversed(shown)):
            axis.barh(i, scale * statistics.mean(found), color='tab:blue', alpha=0.5)
            axis.plot([scale * gain for gain in found], [i] * len(found), 'k.', markersize=5)
        axis.set_yticks(range(len(shown)), [row for row, _ in reversed(shown)], fontsize=8)
        axis.set_xlabel('points over the student alone, by seed')
    return fill


def spectra(records: Records, dataset: str, rows: dict[str, str], projector: str) -> Callable[[Any], None]:
    """Singular values at the end of training over the largest, a curve for each seed."""
    def fill(axis: Any) -> None:
        for colour, (row, label) in enumerate(rows.items()):
            for i, record in enumerate(r for r in of_row(records, dataset, row) if r.get('spectra')):
                values = record['spectra'][projector]
                axis.semilogy([max(value / values[0], 1e-5) for value in values], color=f'C{colour}', alpha=0.7,
                              label=None if i else label)
        axis.set_xlabel('index')
        axis.set_ylabel('singular value / largest')
        axis.legend(fontsize=8)
    return fill


def diagnostic(records: Records, dataset: str, rows: dict[str, str], name: str, label: str) -> Callable[[Any], None]:
    """A diagnostic over training, mean over the seeds."""
    def fill(axis: Any) -> None:
        for row, title in rows.items():
            if found := [r for r in of_row(records, dataset, row) if name in r.get('diagnostics', {})]:
                _band(axis, mean_curve(r['diagnostics'][name] for r in found), title)
        axis.set_xlabel('iteration')
        axis.set_ylabel(label)
        axis.legend(fontsize=8)
    return fill


def pictures(det: Records, cls: Records, folder: Path) -> None:
    """Draw all pictures of the page."""
    size = FCOS.partition('/')[0]
    alone = (f'{size}/fcos', detection.ALONE)
    draw(folder / 'detection_curves.png', [
        ('FCOS → FCOS, what is compared (seeds)', learning(det, {
            'student alone': alone, **{row: (FCOS, row) for row in detection.MAIN}})),
        ('FCOS → FCOS, exponent (seeds)', learning(det, {
            'student alone': alone, 'SRD, alpha 1': (FCOS, 'SRD, alpha 1'), 'SRD, alpha 2': (FCOS, 'SRD, alpha 2'),
            'SRD, alpha 4': (FCOS, LINEAR), 'SRD, alpha 6': (FCOS, 'SRD, alpha 6')}))])
    draw(folder / 'detection_rows.png', [('FCOS → FCOS, mAP', bars(
        det, list(detection.ROWS), FCOS, alone, detection.METRIC, 100))], 5)
    draw(folder / 'detection_pairs.png', [
        (f'{detection.TITLES[t]} → {detection.TITLES[s]}', bars(
            det, list(detection.MAIN), f'{size}/{t}_{s}', (f'{size}/{s}', detection.ALONE), detection.METRIC, 100))
        for t, s in detection.PAIRS[1:]], 2.2)
    draw(folder / 'classification_rows.png', [
        (classification.PARTS[name].title, bars(cls, list(classification.PARTS[name].rows), name,
                                                (classification.home(name), classification.ALONE),
                                                classification.METRIC, 1))
        for name in (DIGITS, 'fashion_mnist', 'fashion_mnist_full')], 4)
    draw(folder / 'teachers.png', [
        (title, bars(cls, list(classification.PARTS['digits_small_teacher'].rows), name, (DIGITS, classification.ALONE),
                     classification.METRIC, 1))
        for name, title in (('digits_small_teacher', 'from ResNet-8'), (DIGITS, 'from ResNet-20'),
                            ('digits_large_teacher', 'from ResNet-56'))], 2.4)
    draw(folder / 'spectra.png', [
        ('FCOS neck, stride 8', spectra(det, FCOS, NORMS, 'neck.0')),
        ('FCOS neck, stride 32', spectra(det, FCOS, NORMS, 'neck.2')),
        ('digits, pooled feature', spectra(cls, DIGITS, NORMS, 'feature.0'))])
    draw(folder / 'decorrelation.png', [
        ('FCOS neck, stride 8', diagnostic(det, FCOS, SIZES, 'srd_cross_correlation/neck.0',
                                           'mean |correlation|, input and output')),
        ('digits, pooled feature', diagnostic(cls, DIGITS, SIZES, 'srd_cross_correlation/feature.0',
                                              'mean |correlation|, input and output'))])


def tables(det: Records, cls: Records) -> dict[str, str]:
    """Tables of the page by their names in its marks."""
    return {
        'normalisation, FCOS': diagnostics_table(det, FCOS, NORMS, 'normalisation, FCOS neck'),
        'normalisation, digits': diagnostics_table(cls, DIGITS, NORMS, 'normalisation, digits'),
        'projector, FCOS': diagnostics_table(det, FCOS, SIZES, 'projector, FCOS neck'),
        'projector, digits': diagnostics_table(cls, DIGITS, SIZES, 'projector, digits'),
    }


def page(text: str, contents: dict[str, str]) -> str:
    """The page with its tables renewed."""
    for name, table in contents.items():
        text = between(text, f'<!-- table: {name} -->', table)
    return text


def main() -> None:
    os.chdir(ROOT)
    det, cls = (recorded(s.everything(), s.results) for s in (detection.STUDY, classification.STUDY))
    pictures(det, cls, PICTURES)
    PAGE.write_text(page(PAGE.read_text(), tables(det, cls)))
    print(f'pictures in {PICTURES}, tables in {PAGE}')


if __name__ == '__main__':
    main()
