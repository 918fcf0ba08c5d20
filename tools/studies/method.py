#!/usr/bin/env python
"""Pictures and tables of docs/method.md, from the records of the studies.

``python tools/studies/method.py`` reads ``docs/results/{detection,classification}.jsonl`` and writes
``docs/pictures/*.png`` and the tables between the marks of ``docs/method.md`` and of the README.
"""
from __future__ import annotations

import os
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import classification
import detection
from detection import METRIC
from detection_rows import LONG, MAIN, PAIRS, ROWS, SGD, TITLES, ending
from plots import bars, diagnostic, draw, learning, spectra
from runs import ROOT, recorded, spread
from study import ALONE, Records, between, by_seed, gains, of_row

PAGE = Path('docs/method.md')
PICTURES = Path('docs/pictures')
README = Path('README.md')
FCOS, DIGITS = 'reduced/fcos_fcos', 'digits'
LINEAR, CONSTANT = 'SRD', 'SRD, weight 0.25'
"""Row of the defaults in both studies, and of SRD without balance in that of detectors."""
NORMS = {'SRD, L2 normalisation': 'L2', 'SRD, no normalisation': 'none'}
SIZES = {'SRD, projector of 2 layers': '2 layers', 'SRD, projector of 3 layers': '3 layers'}
ALIVE = 0.01
"""A singular value counts as alive above this share of the largest."""


def alive(projectors: dict[str, list[float]]) -> list[int]:
    """Number of singular values above :data:`ALIVE` of the largest, for each projector."""
    return [sum(value > ALIVE * max(values) for value in values) for values in projectors.values()]


def last(record: dict[str, Any], start: str) -> float:
    """Mean over the projectors of the last value of a diagnostic."""
    return statistics.mean(curve[-1][1] for name, curve in record['diagnostics'].items() if name.startswith(start))


def diagnostics_table(records: Records, dataset: str, rows: dict[str, str], what: str) -> str:
    """Markdown table of what the projectors were like at the last look, one line for each row."""
    lines = [f'| {what} | seeds | singular values above {ALIVE:.0%} of the largest | effective rank '
             '| mean \\|correlation\\| of input and output |', '|---|---|---|---|---|']
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


def pictures(det: Records, cls: Records, folder: Path) -> None:
    """Draw all pictures of the page."""
    size = FCOS.partition('/')[0]
    alone = (f'{size}/fcos', ALONE)
    draw(folder / 'detection_curves.png', [
        ('FCOS → FCOS, what is compared (seeds)', learning(det, {
            'student alone': alone, **{row: (FCOS, row) for row in MAIN}})),
        ('FCOS → FCOS, exponent (seeds)', learning(det, {
            'student alone': alone, 'SRD, alpha 4, weight 0.25': (FCOS, CONSTANT),
            **{row: (FCOS, row) for row in ROWS if row.startswith('SRD, alpha')}})),
        ('FCOS → FCOS, four times as long (seeds)', learning(det, {
            'student alone': (alone[0], ALONE + LONG), **{row: (FCOS, row + LONG) for row in MAIN}}))])
    draw(folder / 'detection_rows.png', [
        (f'FCOS → FCOS, mAP, {title}', bars(det, [r for r in ROWS if ending(r) == end], FCOS,
                                            (alone[0], ALONE + end), METRIC, 100))
        for end, title in (('', 'AdamW'), (SGD, 'SGD'), (LONG, 'four times as long'))], 5)
    pairs = [pair for pair in PAIRS[1:] if of_row(det, f'{size}/{"_".join(pair)}', CONSTANT)]
    draw(folder / 'detection_pairs.png', [
        (f'{TITLES[t]} → {TITLES[s]}', bars(det, list(MAIN), f'{size}/{t}_{s}', (f'{size}/{s}', ALONE), METRIC, 100))
        for t, s in pairs], 2.2, share=True)
    parts = {name: part for name, part in classification.PARTS.items() if of_row(cls, name, LINEAR)}
    draw(folder / 'classification_rows.png', [
        (part.title, bars(cls, list(part.rows), name, (classification.home(name), ALONE), classification.METRIC, 1))
        for name, part in parts.items() if not name.endswith('_teacher')], 4)
    draw(folder / 'teachers.png', [
        (part.title, bars(cls, [row for row in part.rows if row == LINEAR or row in classification.ALPHAS], name,
                          (DIGITS, ALONE), classification.METRIC, 1))
        for name, part in parts.items() if name == DIGITS or name.endswith('_teacher')], 2.4, share=True)
    draw(folder / 'spectra.png', [
        ('FCOS neck, stride 8', spectra(det, FCOS, {CONSTANT: 'batch', **NORMS}, 'neck.0')),
        ('FCOS neck, stride 32', spectra(det, FCOS, {CONSTANT: 'batch', **NORMS}, 'neck.2')),
        ('digits, pooled feature', spectra(cls, DIGITS, {LINEAR: 'batch', **NORMS}, 'feature.0'))])
    draw(folder / 'decorrelation.png', [
        ('FCOS neck, stride 8', diagnostic(det, FCOS, {CONSTANT: 'linear', **SIZES}, 'srd_cross_correlation/neck.0',
                                           'mean |correlation|, input and output')),
        ('digits, pooled feature', diagnostic(cls, DIGITS, {LINEAR: 'linear', **SIZES},
                                              'srd_cross_correlation/feature.0',
                                              'mean |correlation|, input and output'))])


def tables(det: Records, cls: Records) -> dict[str, str]:
    """Tables of the page by their names in its marks."""
    return {
        'normalisation, FCOS': diagnostics_table(det, FCOS, {CONSTANT: 'batch', **NORMS}, 'normalisation, FCOS neck'),
        'normalisation, digits': diagnostics_table(cls, DIGITS, {LINEAR: 'batch', **NORMS}, 'normalisation, digits'),
        'projector, FCOS': diagnostics_table(det, FCOS, {CONSTANT: 'linear', **SIZES}, 'projector, FCOS neck'),
        'projector, digits': diagnostics_table(cls, DIGITS, {LINEAR: 'linear', **SIZES}, 'projector, digits'),
    }


def summary(det: Records, cls: Records) -> dict[str, str]:
    """The README's table: what SRD gains over the student alone, and what the usual method does."""
    lines = ['| student | teacher | student alone | KL or PKD (seeds) | SRD, constant weight (seeds) '
             '| SRD, balance (seeds) |',
             '|---|---|---|---|---|---|']
    for name in ('fashion_mnist', 'fashion_mnist_full', DIGITS):
        part = classification.PARTS[name]
        lines += _gain(part.title, 'ResNet-20', cls, name, (classification.home(name), ALONE), ('KL', LINEAR),
                       classification.METRIC, 1)
    size = FCOS.partition('/')[0]
    for (teacher, student), end in product(PAIRS, ('', LONG)):
        lines += _gain(f'{TITLES[student]}, composed scenes{end}', TITLES[teacher], det, f'{size}/{teacher}_{student}',
                       (f'{size}/{student}', ALONE + end), ('PKD' + end, CONSTANT + end, LINEAR + end), METRIC, 100)
    return {'summary': '\n'.join(lines)}


def _gain(student: str, teacher: str, records: Records, dataset: str, alone: tuple[str, str], rows: tuple[str, ...],
          metric: str, scale: float) -> list[str]:
    base, *gained = ({seed: scale * value for seed, value in by_seed(records, *place, metric).items()}
                     for place in (alone, *((dataset, row) for row in rows)))
    if not all(gained[:2]):
        return []
    cells = (student, teacher, spread(list(base.values()), digits=1),
             *(f'{spread(gains(values, base), "+", 1)} ({len(values)})' if values else 'not measured'
               for values in gained),
             *['–'] * (3 - len(gained)))  # classifiers have no balance
    return [f'| {" | ".join(cells)} |']


def page(text: str, contents: dict[str, str]) -> str:
    """The page with its tables renewed."""
    for name, table in contents.items():
        text = between(text, f'<!-- table: {name} -->', table)
    return text


def main() -> None:
    os.chdir(ROOT)
    det, cls = (recorded(s.everything(), s.results) for s in (detection.STUDY, classification.STUDY))
    pictures(det, cls, PICTURES)
    for path, contents in ((PAGE, tables(det, cls)), (README, summary(det, cls))):
        path.write_text(page(path.read_text(), contents))
    print(f'pictures in {PICTURES}, tables in {PAGE} and {README}')


if __name__ == '__main__':
    main()
