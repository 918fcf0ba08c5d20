"""Tables of the method page, of the page on projectors, and of the README, from the records of the studies."""
from __future__ import annotations

from itertools import product
from typing import NamedTuple, Sequence

import classification
import pandas as pd
import real
from detection import METRIC
from detection_rows import CROPS, DEFAULT, INIT, LAST_NORMS, LONG, MAIN, PAIRS_OF, ROWS, SGD, TITLES
from runs import ROOT, markdown, read_lines, spread
from tables import ALONE, TEACHER, by_seed, counted, frame, gains, of_row

FCOS, DIGITS = 'reduced/fcos_fcos', 'digits'
LINEAR, CONSTANT = 'SRD', 'SRD, weight 0.25'
"""Row of SRD in both studies (in that of detectors with a balance), and of SRD without balance."""
NORMS = {'SRD, L2 normalisation': 'L2', 'SRD, no normalisation': 'none'}
SIZES = {'SRD, projector of 2 layers': '2 layers', 'SRD, projector of 3 layers': '3 layers'}
PUBLISHED = 'PKD, weight 18'
"""The authors add 6 for each of three levels."""
REASONS = {
    CONSTANT: 'one weight for all levels, the best of 0.06, 0.25, 1 and 4',
    'SRD, weight 0.17, without stride 32': 'the same, without the level that has no objects',
    'SRD, weights of a balanced run': 'a weight for each level, those that a balanced run ends with',
    LINEAR: 'balance 1',
    'SRD, balance 1, stride 8 alone': 'balance 1 at stride 8 alone',
    'SRD, balance 1, stride 16 alone': 'balance 1 at stride 16 alone',
    'SRD, balance 1, stride 32 alone': 'balance 1 at stride 32 alone',
    'PKD': 'PKD, weight 6 for all levels',
    PUBLISHED: 'PKD, weight 18 for all levels, as published',
    'PKD, weights of a balanced run': 'PKD, a weight for each level, those that a balanced run ends with',
    'PKD, balance 1': 'PKD, balance 1',
}
"""Rows that ask why the balance works → what the page calls them."""
CHOICES = (DEFAULT, f'student alone{INIT}', 'SRD', 'SRD, balance 0.3', 'SRD, balance 3',
           'SRD, balance 1, alpha 1', 'SRD, balance 1, alpha 2',
           'SRD, balance 1, alpha 6', 'SRD, balance 1, correlation form', 'SRD, balance 1, spatial normalisation',
           LAST_NORMS,
           'SRD, balance 1, no normalisation', 'SRD, balance 1, orthogonal projector',
           'SRD, balance 1, projector of 2 layers', 'SRD, balance 1, no projector',
           f'SRD, balance 1, no projector{INIT}', 'SRD, balance 1, backbone',
           'SRD, balance 1, neck and backbone', 'SRD and dense logits, balance 1', 'dense logits, balance 1', CROPS,
           'PKD, balance 1', 'MSE, projector, balance 1', 'VkD, balance 1', CONSTANT, 'PKD', PUBLISHED,
           'MSE, projector', 'VkD, weight 1')
WITH_INIT = tuple(row for row in MAIN if INIT in row)
WITHOUT_INIT = ('SRD', 'PKD, balance 1', 'MSE, projector, balance 1', CONSTANT, PUBLISHED)
REMOVED = ROOT / 'docs/results/removed.jsonl'
"""Records of what is no longer in the package."""
THROUGH = ('through the head, SRD', 'through the head, MSE', 'through the head, binary KL',
           'neck, and through the head, binary KL')
ALIVE = 0.01
"""A singular value counts as alive above this share of the largest."""


class SummaryPair(NamedTuple):
    """One student with its teacher: where the records of both, of the usual loss and of the preset are."""

    student: str
    teacher: str
    dataset: str  # of the distilled students
    alone: tuple[str, str]  # data set and row of the student alone
    own: tuple[str, str]  # data set and row of the teacher
    usual: str  # row of the usual loss, with its published weight
    preset: str  # row of mmsrd's preset
    metric: str  # name in the records
    scale: float  # from the metric to percent


def alive(spectrum: Sequence[float]) -> int:
    """Number of singular values above :data:`ALIVE` of the largest."""
    return sum(value > ALIVE * max(spectrum) for value in spectrum)


def diagnostics_table(results: pd.DataFrame, dataset: str, rows: dict[str, str], what: str) -> str:
    """Markdown table of what the projectors were like at the last look, one line for each row."""
    lines = []
    for row, label in rows.items():
        found = of_row(results, dataset, row)
        spectra = found.filter(like='spectra.').dropna()
        if spectra.empty:
            continue
        last = found.loc[spectra.index].filter(like='diagnostics.').map(lambda curve: curve[-1][1], na_action='ignore')
        rank, correlation = (last.filter(like=f'srd_{name}/').mean(axis=1)
                             for name in ('effective_rank', 'cross_correlation'))
        lines.append((label, len(spectra), f'{spread(spectra.map(alive).mean(axis=1), digits=1)} of '
                      f'{len(spectra.iat[0, 0])}', spread(rank, digits=1), spread(correlation, digits=3)))
    return markdown((what, 'seeds', f'singular values above {ALIVE:.0%} of the largest', 'effective rank',
                     'mean \\|correlation\\| of input and output'), lines)


def gain_table(results: pd.DataFrame, dataset: str, alone: tuple[str, str], rows: dict[str, str]) -> str:
    """Markdown table of mAP and gain over the student alone, one line for each row that is recorded."""
    base = by_seed(results, *alone, METRIC)
    found = {label: by_seed(results, dataset, row, METRIC) for row, label in rows.items()}
    return markdown(('training', 'seeds', 'mAP (%)', 'over alone'), [
        (label, len(values), spread(100 * values, digits=1), spread(100 * gains(values, base), '+', 1))
        for label, values in found.items() if len(values)])


def pairs_table(results: pd.DataFrame, rows: Sequence[str]) -> str:
    """Markdown table of all pairs: gain over the student alone of each of the rows."""
    lines = []
    for size, emoji in (('reduced', ''), ('emoji', ', emoji')):
        for teacher, student in PAIRS_OF[size]:
            base = by_seed(results, f'{size}/{student}', ALONE, METRIC)
            values = [by_seed(results, f'{size}/{teacher}_{student}', row, METRIC) for row in rows]
            lines.append((f'{TITLES[teacher]} → {TITLES[student]}{emoji}', counted(100 * base),
                          *(counted(100 * gains(found, base), '+') for found in values)))
    return markdown(('teacher → student', 'student alone (seeds)', *rows), lines)


def removed_table() -> str:
    """Markdown table of what was tried on one seed and removed: features through the teacher's head."""
    results = frame(dict(enumerate(read_lines(REMOVED))))  # type: ignore[arg-type]
    columns = (DEFAULT, *(f'{row}{INIT}' for row in THROUGH))
    lines = []
    for teacher, student in product(('fcos', 'gfl'), repeat=2):
        found = [by_seed(results, f'reduced/{teacher}_{student}', row, METRIC) for row in columns]
        lines.append((f'{TITLES[teacher]} → {TITLES[student]}',
                      *(spread(100 * values, digits=1) if len(values) else 'not measured' for values in found)))
    return markdown(('teacher → student', 'preset', *THROUGH), lines)


def photographs(results: pd.DataFrame) -> dict[str, str]:
    """The README's table: the preset on photographs, at equal steps and at equal time."""
    lines = []
    for part in real.PAIRS:
        name, teacher, student = real.names(part)
        base, longer, distilled, own = (
            real.figures(results, part, row) for row in (ALONE, real.EQUAL_TIME[real.PRESET], real.PRESET, TEACHER))
        if len(distilled):
            lines.append((real.SETS[name], real.TITLES[student], real.TITLES[teacher], spread(100 * base, digits=1),
                          spread(100 * distilled, digits=1), counted(100 * gains(distilled, base), '+'),
                          counted(100 * longer), spread(100 * own, digits=1)))
    return {'photographs': markdown(('photographs', 'student', 'teacher', 'student alone', 'with mmsrd', 'gain (seeds)',
                                     'alone, in the same time', "teacher's mAP"), lines)}


def _pair(part: str) -> str:
    name, teacher, student = real.names(part)
    return f'{name}: {real.TITLES[teacher]} → {real.TITLES[student]}'


def compared_on_photographs(results: pd.DataFrame) -> str:
    """Markdown table of the rows on photographs: gain over the student alone, and over the preset of the same seeds."""
    lines = []
    for part in real.PAIRS:
        alone, preset = (real.figures(results, part, row) for row in (ALONE, real.PRESET))
        for row in (*real.ROWS, *real.EQUAL_TIME.values()):
            values = real.figures(results, part, row)
            if len(values) and row not in real.FEW_LABELS:
                lines.append((_pair(part), row,
                              counted(100 * gains(values, alone), '+'),
                              '' if row == real.PRESET else spread(100 * gains(values, preset), '+', 1)))
    return markdown(('set: teacher → student', 'training', 'over alone (seeds)', 'over the preset'), lines)


def few_labels(results: pd.DataFrame) -> str:
    """Markdown table of students on a tenth of the labels, beside those on all of them."""
    lines = []
    for part in real.PAIRS:
        tenth = real.figures(results, part, real.TENTH)
        for row in (real.TENTH, real.TENTH_PRETRAINED, real.TENTH_PRESET, ALONE, real.PRESET) if len(tenth) else ():
            values = real.figures(results, part, row)
            values = values[values.index.intersection(tenth.index)]
            label = f'{row}, all labels' if row in (ALONE, real.PRESET) else row
            lines.append((_pair(part), label, counted(100 * values),
                          '' if row == real.TENTH else spread(100 * gains(values, tenth), '+', 1)))
    return markdown(('set: teacher → student', 'training', 'mAP (seeds)', 'over a tenth alone'), lines)


def equal_time(results: pd.DataFrame) -> str:
    """Markdown table of distilled students beside the student alone after as much processor time."""
    lines = []
    for part in real.PAIRS:
        name, _, student = real.names(part)
        for row, times in real.LONGER.get(f'{name}/{student}', {}).items():
            distilled, alone = (real.figures(results, part, each) for each in (row, real.EQUAL_TIME[row]))
            both = distilled.index.intersection(alone.index)
            if len(both):
                figures = *(counted(100 * values[both]) for values in (distilled, alone)), \
                    counted(100 * gains(distilled, alone), '+')
                lines.append((_pair(part), row, f'{times:g}', *figures))
    return markdown(('set: teacher → student', 'training', 'time over alone', 'mAP (seeds)', 'alone in that time',
                     'difference'), lines)


def tables(det: pd.DataFrame, cls: pd.DataFrame, photos: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Tables of the pages, by page and by their names in its marks.

    Args:
        det: Records of the detection study.
        cls: Records of the classification study.
        photos: Records of the study of photographs.
    """
    alone = f'{FCOS.partition("/")[0]}/fcos'
    ended = {end: {row + end: row for row in MAIN if row + end in ROWS} for end in (SGD, LONG)}
    return {
        'method.md': {
            'photographs, rows': compared_on_photographs(photos),
            'photographs, equal time': equal_time(photos),
            'photographs, few labels': few_labels(photos),
            'summary': summary(det, cls),
            'why': gain_table(det, FCOS, (alone, ALONE), REASONS),
            'choices': gain_table(det, FCOS, (alone, ALONE), {row: row for row in CHOICES}),
            'pairs': pairs_table(det, WITH_INIT),
            'through the head': removed_table(),
            'pairs, own start': pairs_table(det, WITHOUT_INIT),
            'SGD': gain_table(det, FCOS, (alone, ALONE + SGD), ended[SGD]),
            'long': gain_table(det, FCOS, (alone, ALONE + LONG), ended[LONG]),
        },
        'projectors.md': {
            'normalisation, FCOS': diagnostics_table(det, FCOS, {CONSTANT: 'batch', **NORMS},
                                                     'normalisation, FCOS neck'),
            'normalisation, digits': diagnostics_table(cls, DIGITS, {LINEAR: 'batch', **NORMS},
                                                       'normalisation, digits'),
            'projector, FCOS': diagnostics_table(det, FCOS, {CONSTANT: 'linear', **SIZES}, 'projector, FCOS neck'),
            'projector, digits': diagnostics_table(cls, DIGITS, {LINEAR: 'linear', **SIZES}, 'projector, digits'),
        },
    }


def pairs_of_summary() -> list[SummaryPair]:
    """Classifiers, then detectors, of the method page's first table and picture."""
    found = []
    for name in ('fashion_mnist', 'fashion_mnist_full', DIGITS):
        part = classification.PARTS[name]
        found.append(SummaryPair(part.title, 'ResNet-20', name, (classification.home(name), ALONE),
                                 (classification.home(name, part.teacher), TEACHER), 'KL', 'SRD + KL',
                                 classification.METRIC, 1))
    for size, scenes in (('reduced', 'digit scenes'), ('emoji', 'emoji scenes')):
        for (teacher, student), end in product(PAIRS_OF[size], ('', LONG)):
            found.append(SummaryPair(f'{TITLES[student]}, {scenes}{end}', TITLES[teacher],
                                     f'{size}/{teacher}_{student}', (f'{size}/{student}', ALONE + end),
                                     (f'{size}/{teacher}', TEACHER), f'{PUBLISHED}{end}', f'{DEFAULT}{end}', METRIC,
                                     100))
    return found


def summary(det: pd.DataFrame, cls: pd.DataFrame) -> str:
    """The method page's first table: what the preset and the usual method gain over the student alone."""
    lines = []
    for pair in pairs_of_summary():
        results = cls if pair.metric == classification.METRIC else det
        base, own = (by_seed(results, *of, pair.metric) for of in (pair.alone, pair.own))
        gained = [gains(by_seed(results, pair.dataset, row, pair.metric), base) for row in (pair.usual, pair.preset)]
        if any(map(len, gained)):
            lines.append((pair.student, pair.teacher, spread(pair.scale * base, digits=1),
                          *(counted(pair.scale * found, '+') for found in gained), spread(pair.scale * own, digits=1)))
    return markdown(('student', 'teacher', 'student alone', 'KL or PKD (seeds)', 'mmsrd preset (seeds)', 'teacher'),
                    lines)
