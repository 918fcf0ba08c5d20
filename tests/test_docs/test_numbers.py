"""Every measured number in the text of the pages comes from a record: each sentence is made anew from the records."""
from __future__ import annotations

import json
import math
import re
import statistics

import classification
import detection
import pytest
from detection import METRIC
from detection_rows import DEFAULT, INIT, LONG
from helpers.processes import ROOT
from method_tables import pairs_of_summary
from one_process import compared
from records import read_lines
from tables import ALONE, TEACHER, by_seed, frame, of_row

RELIABILITY = ROOT / 'docs/results/reliability.jsonl'
TABLE = re.compile(r'<!-- table.*?<!-- end of table -->', re.S)
CODE = re.compile(r'^```.*?^```|`[^`\n]*`|\]\([^)]*\)', re.M | re.S)
NUMBER = re.compile(r'(?<![\w.,])\d+\.\d+(?![\w]|\.\d)')
PKD, MSE = f'PKD, balance 1{INIT}', f'MSE, projector, balance 1{INIT}'


@pytest.fixture(scope='module')
def det():
    return frame(detection.STUDY.recorded())


@pytest.fixture(scope='module')
def cls():
    return frame(classification.STUDY.recorded())


def text_of(page):
    return ' '.join((ROOT / page).read_text().split())


def values(records, dataset, row, seeds, metric=METRIC, scale=100):
    found = by_seed(records, dataset, row, metric)
    return [scale * found[seed] for seed in seeds]


def ahead(det, row, other, dataset, seeds):
    """Points by which a row is ahead of another."""
    return statistics.mean(values(det, dataset, row, seeds)) - statistics.mean(values(det, dataset, other, seeds))


def way(det, teacher, student, size='reduced'):
    """How far students go from themselves alone to their teacher, percent."""
    seeds = 3, 4, 5
    alone = statistics.mean(values(det, f'{size}/{student}', ALONE, seeds))
    own, = values(det, f'{size}/{teacher}', TEACHER, [0])
    return 100 * (statistics.mean(values(det, f'{size}/{teacher}_{student}', DEFAULT, seeds)) - alone) / (own - alone)


def sentences_of_detectors(det):
    """Sentences of the method page, with numbers from the records."""
    def points(row, other, dataset, seeds=(3,)):
        return f'{ahead(det, row, other, dataset, seeds):.1f}'

    three = 3, 4, 5
    yield (f'PKD is ahead of SRD by {points(PKD, DEFAULT, "reduced/fcos_fcos", three)} with FCOS, '
           f'{points(PKD, DEFAULT, "reduced/retinanet_retinanet", three)} with RetinaNet and '
           f'{points(PKD, DEFAULT, "reduced/yolox_yolox", three)} with YOLOX (three seeds each), and behind it by '
           f'{points(DEFAULT, PKD, "reduced/fcos_retinanet")} with FCOS → RetinaNet, '
           f'{points(DEFAULT, PKD, "emoji/fcos_fcos")} on the emoji, {points(DEFAULT, PKD, "reduced/atss_atss")} with '
           f'ATSS, {points(DEFAULT, PKD, "reduced/faster-rcnn_faster-rcnn")} with Faster R-CNN and '
           f'{points(DEFAULT, PKD, "reduced/faster-rcnn_fcos")} with Faster R-CNN → FCOS (seed 3).')
    datasets = [pair.dataset for pair in pairs_of_summary() if pair.metric == METRIC and LONG not in pair.preset]
    assert len(datasets) == 8
    srd, pkd = (statistics.mean(values(det, dataset, row, [3])[0] for dataset in datasets) for row in (DEFAULT, PKD))
    yield f'Over the eight pairs (seed 3) the means are {srd:.1f} for SRD and {pkd:.1f} for PKD.'
    behind = {dataset: -ahead(det, MSE, DEFAULT, dataset, three if 'yolox' in dataset else [3]) for dataset in datasets}
    close = max(abs(gap) for gap in behind.values() if gap < 1.5)
    assert sum(abs(gap) <= close for gap in behind.values()) == 6
    yield (f'within {close:.1f} of SRD in six of eight pairs, YOLOX among them '
           f'({points(MSE, DEFAULT, "reduced/yolox_yolox", three)} ahead, seeds 3 to 5), and '
           f'{behind["reduced/faster-rcnn_fcos"]:.1f} and {behind["reduced/faster-rcnn_faster-rcnn"]:.1f} behind with '
           'Faster R-CNN → FCOS and Faster R-CNN (seed 3).')
    kinds = 'fcos', 'retinanet', 'atss', 'faster-rcnn', 'yolox'
    *own, yolox = (values(det, f'reduced/{name}', TEACHER, [0])[0] for name in kinds)
    ways = [way(det, name, name) for name in kinds[:-1]]
    emoji, = values(det, 'emoji/fcos', TEACHER, [0])
    yield (f'go {min(ways):.0f} to {max(ways):.0f} % of the way from the student alone to a teacher of their own kind '
           '({:.1f}, {:.1f}, {:.1f} and {:.1f}; seeds 3 to 5), '.format(*own)
           + f'YOLOX ({yolox:.1f}) and the emoji ({emoji:.1f}) {way(det, "yolox", "yolox"):.0f} and '
           f'{way(det, "fcos", "fcos", "emoji"):.0f} %, RetinaNet from FCOS {way(det, "fcos", "retinanet"):.0f} % and '
           f'FCOS from Faster R-CNN {way(det, "faster-rcnn", "fcos"):.0f} %.')
    without = f'SRD, balance 1, no projector{INIT}'
    shown = [values(det, f'{size}/fcos_fcos', row, [3])[0]
             for row in (without, DEFAULT) for size in ('reduced', 'emoji')]
    yield 'without one it is {:.1f} and {:.1f} on digits and emoji, with one {:.1f} and {:.1f} (seed 3).'.format(*shown)
    longer = [values(det, 'reduced/fcos', f'{ALONE}, {times} × as long', [seed])[0]
              for times, seed in (('1.6', 0), ('6.4', 0), ('6.4', 3))]
    distilled, = values(det, 'reduced/fcos_fcos', DEFAULT + LONG, [3])
    yield f'reaches {longer[0]:.1f} mAP (seed 0; distilled'
    yield (f'trained 6.4 times as long {longer[1]:.1f} and {longer[2]:.1f} (seeds 0 and 3; distilled four times as '
           f'long {distilled:.1f}, seed 3).')
    rows = (of_row(det, 'reduced/fcos_fcos', f'{loss}, weights of a balanced run') for loss in ('SRD', 'PKD'))
    weights = [f'{float(option.partition("=")[2]):.2g}'.replace('1.7e-07', '2e-7').replace('e-0', 'e-')
               for found in rows for option in found['options'].item() if '.weight=' in option]
    yield '({}, {} and {} for the strides 8, 16 and 32; of PKD {}, {} and {})'.format(*weights)


def sentences_of_classifiers(cls):
    def mean(dataset, row):
        return f'{statistics.mean(values(cls, dataset, row, range(3), classification.METRIC, 1)):.1f}'

    balanced = {dataset: [mean(dataset, f'SRD, balance {balance}') for balance in ('0.3', '1', '3')]
                for dataset in ('digits', 'fashion_mnist')}
    yield ('on digits it reaches {}, {} and {} with balance 0.3, 1 and 3, and '.format(*balanced['digits'])
           + f'{mean("digits", "SRD")} with the published weight of 2 (seeds 0 to 2; alone {mean("digits", ALONE)}); '
           + 'on Fashion-MNIST with 1,000 labels {}, {} and {}, and '.format(*balanced['fashion_mnist'])
           + f'{mean("fashion_mnist", "SRD")} with weight 2 (alone {mean("fashion_mnist", ALONE)}).')


def test_the_method_page(det, cls):
    page = 'docs/en/notes/method.md'
    sentences = [*sentences_of_detectors(det), *sentences_of_classifiers(cls)]
    for sentence in sentences:
        assert sentence in text_of(page)
    settings = {'0.25', '0.06', '0.3', '1.6', '6.4'}  # of the rows; times of a step are in the page on performance
    assert unexplained(page, sentences, settings) == []


def unexplained(page, sentences, settings):
    """Numbers with a decimal point that neither a table of the page nor a sentence from the records has."""
    full = (ROOT / page).read_text()
    known = set(NUMBER.findall(' '.join([*TABLE.findall(full), *sentences]))) | settings
    prose = CODE.sub(' ', TABLE.sub(' ', full))
    return [number for number in NUMBER.findall(prose) if number not in known]


def test_the_readme(det):
    versions = {'3.8', '3.13', '2.0', '0.8', '2.1', '3.0', '3.3', '1.0', '1.2', '3.10', '3.12'}
    assert unexplained('README.md', [], versions) == []
    worse = [pair.dataset for pair in pairs_of_summary() if pair.metric == METRIC and LONG not in pair.preset
             and ahead(det, PKD, DEFAULT, pair.dataset, sorted(
                 set(by_seed(det, pair.dataset, PKD, METRIC).index)
                 & set(by_seed(det, pair.dataset, DEFAULT, METRIC).index))) > 0]
    assert len(worse) == 3
    assert 'PKD is ahead in three of eight pairs of detectors, SRD in five.' in text_of('README.md')


def test_the_guides(det):
    seeds = range(3)
    alone, crops = (statistics.mean(values(det, dataset, row, used)) for dataset, row, used in (
        ('reduced/fcos', ALONE, by_seed(det, 'reduced/fcos', ALONE, METRIC).index),
        ('reduced/fcos_fcos', 'SRD, a classifier teaches', seeds)))
    detector = statistics.mean(values(det, 'reduced/fcos_fcos', 'SRD', range(4)))
    page = 'docs/en/user_guides/foundation_teachers.md'
    sentences = [f'takes the FCOS student from {alone:.1f} to {crops:.1f} mAP (seeds 0 to 2)',
                 f'to {detector:.1f} (seeds 0 to 3)']
    for sentence in sentences:
        assert sentence in text_of(page)
    assert unexplained(page, sentences, {'1.0', '2.0'}) == []
    ways = [way(det, *pair) for pair in (('fcos', 'fcos'), ('retinanet', 'retinanet'), ('atss', 'atss'),
                                         ('faster-rcnn', 'faster-rcnn'), ('yolox', 'yolox'), ('fcos', 'fcos', 'emoji'))]
    others = sorted(way(det, *pair) for pair in (('faster-rcnn', 'fcos'), ('fcos', 'retinanet')))
    page = 'docs/en/user_guides/choosing.md'
    assert (f"students of the teacher's own kind closed {min(ways):.0f} to {max(ways):.0f} % of the gap to it, others "
            f'{others[0]:.0f} and {others[1]:.0f} %') in text_of(page)
    assert unexplained(page, [], {'0.3'}) == []
    assert unexplained('docs/en/user_guides/classifiers.md', [], set()) == []
    assert f'log 12 = {math.log(12):.2f}' in text_of('docs/en/user_guides/logs_and_report.md')


def test_the_page_on_projectors():
    expected = [f'{math.sqrt(2 / (math.pi * rows)):.2f}' for rows in (50, 2048, 128)]
    sentence = ('a mean |correlation| of {} on digits (50 rows), and of {} to {} on FCOS (2,048 to 128 rows)'
                ).format(*expected)
    page = 'docs/en/notes/projectors.md'
    assert sentence in text_of(page)
    assert unexplained(page, [sentence], {'0.25'}) == []


WORDS = {1: 'one', 2: 'two', 4: 'four', 5: 'five', 7: 'seven', 8: 'eight', 9: 'nine', 10: 'ten'}


def test_the_page_on_reliability():
    page = text_of('docs/en/notes/reliability.md')
    newest = {(record['trial'], record.get('processes')): record for record in read_lines(RELIABILITY)}
    one, two = newest['kill', 1], newest['kill', 2]
    each = {one['moments'][moment] + two['moments'][moment] for moment in one['moments']}
    assert (f'{one["kills"] + two["kills"]} kills, {one["kills"]} with one process and {two["kills"]} with two, '
            f'{WORDS[min(each)]} at each of {WORDS[len(one["moments"])]} moments') in page
    assert len(each) == 1
    disks = newest['disks', None]
    assert (f'{sum(disks["faults"].values())} faults, {WORDS[min(disks["faults"].values())]} of each of '
            f'{WORDS[len(disks["faults"])]} kinds') in page
    assert f'the {WORDS[disks["went_on"]]} trainings that could go on did' in page
    nodes = newest['nodes', 4]
    assert (f'{WORDS[nodes["losses"]]} losses in {nodes["trainings"]} trainings of two nodes with '
            f'{WORDS[nodes["processes"] // nodes["nodes"]]} processes each') in page
    blocks = newest['bad_configs', None]
    trained = blocks['outcomes']['trained']
    assert (f'{blocks["count"]:,} blocks: {trained:,} trained a step, the others raised '
            f'{len(blocks["outcomes"]) - 1} kinds of typed errors') in page
    long = newest['soak_training', 2]
    phases = [long[f'process {rank}, {phase}'] for rank in (0, 1) for phase in ('before', 'during', 'after')]
    slopes = [f'{phase["mib_per_1000"]:.2f}'.replace('-', '−') for phase in phases if phase['mib_per_1000'] is not None]
    assert (f'{long["iterations"]:,} iterations of a classifier in {WORDS[long["processes"]]} processes') in page
    assert f'at all {sum(phase["looks"] for phase in phases[:3])} samples of each process' in page
    assert f'memory {slopes[0]} and {slopes[1]} MiB per 1,000 iterations while distilling' in page
    held = {key: max(phase['spread'][key] for phase in phases) for key in phases[0]['spread']}
    assert held.pop('tensors') == 3
    assert not any(held.values())


def test_the_counts_of_the_model_zoos():
    """Folders that train, with both teachers too, as the README and the guides say."""
    newest = {(record['package'], record['folder']): record for record in read_lines(ROOT / 'docs/results/zoo.jsonl')}
    counts = {package: sum(record['alone'] == record.get('family') == record.get('other') == 'ok'
                           for (of, _), record in newest.items() if of == package)
              for package in ('mmdet', 'mmpretrain', 'mmseg', 'mmpose', 'mmyolo', 'mmrotate')}
    readme = text_of('README.md')
    assert f'[{counts["mmdet"] + counts["mmpretrain"]} folders](configs/ZOO.md)' in readme
    assert f'MMDetection ({counts["mmdet"]}) and MMPretrain ({counts["mmpretrain"]})' in readme
    assert (f'MMSegmentation ({counts["mmseg"]}), MMPose ({counts["mmpose"]}), MMYOLO ({counts["mmyolo"]}) and '
            f'MMRotate ({counts["mmrotate"]})') in readme
    assert (f'{counts["mmseg"]} of MMSegmentation, {counts["mmpose"]} of MMPose, {counts["mmyolo"]} of MMYOLO and '
            f'{counts["mmrotate"]} of MMRotate') in text_of('docs/en/advanced_guides/other_toolboxes.md')


def performance(name):
    return json.loads((ROOT / f'docs/results/performance/{name}.json').read_text())


def test_the_targets_on_a_cpu():
    page = text_of('docs/en/notes/performance.md')
    turns = {pair: performance(f'one_process_{pair}')['turns'] for pair in ('fcos', 'resnet')}
    ratios = {pair: compared(found) for pair, found in turns.items()}
    step, balance, ended = ({pair: f'{statistics.median(found[name]):.3f}' for pair, found in ratios.items()}
                            for name in ratios['fcos'])
    ours, plain, teacher = (statistics.median(turn[name] for turn in turns['fcos'])
                            for name in ('ours', 'plain', 'teacher'))
    assert f'| {step["fcos"]} ({ours:.0f} against {plain:.0f} + {teacher:.0f} ms) |' in page
    assert f'| the same | {step["resnet"]} |' in page
    assert f'| {ended["fcos"]} and {ended["resnet"]}; freed' in page
    assert f'with the balance over constant weights | ≤ 1.01 | {balance["fcos"]} |' in page
    widest = max(abs(quartile / statistics.median(values) - 1) for found in ratios.values()
                 for values in found.values() for quartile in statistics.quantiles(values, n=4))
    assert f'medians of {len(turns["fcos"])} turns' in page
    assert f'lies within {math.ceil(100 * widest)} % of them' in page
    memory, = (row['memory_ratio'] for row in performance('fcos_cpu_none')['rows'] if row['variant'] == 'ours')
    assert f'over the plain step | – | {memory:.2f}, with the teacher' in page
    start = performance('startup')
    later = [ours - plain for plain, ours in zip(start['plain'], start['distilled'])]
    assert (f'{statistics.median(later):.1f} s later ({min(later):.1f} to {max(later):.1f}), of which the teacher '
            f'takes {start["teacher_seconds"]:.1f} s') in page
    assert f'startup.py`, {WORDS[len(later)]} turns' in page
