#!/usr/bin/env python
"""Pictures and tables of docs/en/notes/method.md and projectors.md, from the records of the studies.

``python tools/studies/method.py`` reads ``docs/results/{detection,classification,real}.jsonl`` and writes
``docs/pictures/*.png`` and the tables between the marks of the two pages and of the README.
"""
from __future__ import annotations

import argparse
import os
from pathlib import Path

import classification
import detection
import pandas as pd
import real
from detection import METRIC
from detection_rows import LONG, MAIN, PAIRS, ROWS, SGD, TITLES, ending
from method_tables import CONSTANT, DIGITS, FCOS, LINEAR, NORMS, SIZES, WITH_INIT, pairs_of_summary, photographs, tables
from plots import bars, diagnostic, draw, factors, gradients, learning, pairs_bars, spectra
from runs import ROOT, between
from tables import ALONE, frame, of_row

NOTES = Path('docs/en/notes')
PICTURES = Path('docs/pictures')
README = Path('README.md')
STRIDES = 8, 16, 32
WEIGHT = 0.25
"""Of :data:`~method_tables.CONSTANT`."""


def pictures(det: pd.DataFrame, cls: pd.DataFrame, folder: Path) -> None:
    """Draw all pictures of the page."""
    size = FCOS.partition('/')[0]
    alone = (f'{size}/fcos', ALONE)
    detectors = [pair for pair in pairs_of_summary() if pair.metric == METRIC and not pair.usual.endswith(LONG)]
    draw(folder / 'results.png', [('teacher → student, mAP (%), mean over the seeds', pairs_bars(det, detectors))], 4.4,
         width=8)
    draw(folder / 'balance.png', [
        (f'SRD, constant weight {WEIGHT:g}', gradients(det, FCOS, CONSTANT, 'neck', STRIDES, WEIGHT)),
        ('SRD, balance 1', gradients(det, FCOS, LINEAR, 'neck', STRIDES, None)),
        ('effective weight of each level', factors(det, FCOS, LINEAR, 'neck', STRIDES, WEIGHT))])
    draw(folder / 'detection_curves.png', [
        ('FCOS → FCOS, what is compared (seeds)', learning(det, {
            'student alone': alone, **{row: (FCOS, row) for row in (*WITH_INIT, LINEAR, CONSTANT, 'PKD')}})),
        ('FCOS → FCOS, exponent (seeds)', learning(det, {
            'student alone': alone, 'SRD, alpha 4, weight 0.25': (FCOS, CONSTANT),
            **{row: (FCOS, row) for row in ROWS if row.startswith('SRD, alpha')}})),
        ('FCOS → FCOS, four times as long (seeds)', learning(det, {
            'student alone': (alone[0], ALONE + LONG), **{row: (FCOS, row + LONG) for row in MAIN}}))])
    draw(folder / 'detection_rows.png', [
        (f'FCOS → FCOS, mAP, {title}', bars(det, [r for r in ROWS if ending(r) == end], FCOS,
                                            (alone[0], ALONE + end), METRIC, 100))
        for end, title in (('', 'AdamW'), (SGD, 'SGD'), (LONG, 'four times as long'))], 8)
    pairs = [pair for pair in PAIRS[1:] if len(of_row(det, f'{size}/{"_".join(pair)}', CONSTANT))]
    draw(folder / 'detection_pairs.png', [
        (f'{TITLES[t]} → {TITLES[s]}', bars(det, list(MAIN), f'{size}/{t}_{s}', (f'{size}/{s}', ALONE), METRIC, 100))
        for t, s in pairs], 2.2, share=True)
    parts = {name: part for name, part in classification.PARTS.items() if len(of_row(cls, name, LINEAR))}
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


def page(text: str, contents: dict[str, str]) -> str:
    """The page with its tables renewed."""
    for name, table in contents.items():
        text = between(text, f'<!-- table: {name} -->', table)
    return text


def main() -> None:
    os.chdir(ROOT)
    det, cls, photos = (frame(study.recorded()) for study in (detection.STUDY, classification.STUDY, real.STUDY))
    pictures(det, cls, PICTURES)
    pages = {NOTES / name: contents for name, contents in tables(det, cls, photos).items()}
    for path, contents in {**pages, README: photographs(photos)}.items():
        path.write_text(page(path.read_text(), contents))
    print(f'pictures in {PICTURES}, tables in {", ".join(map(str, [*pages, README]))}')


if __name__ == '__main__':
    argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0]).parse_args()
    main()
