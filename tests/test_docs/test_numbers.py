"""Every measured number in the text of the pages comes from a record, however the text puts it."""
from __future__ import annotations

import json
import math
import re
import statistics

import classification
import detection
import pytest
import real
from detection import METRIC
from detection_rows import DEFAULT, INIT, LONG
from helpers.processes import ROOT
from method_tables import pairs_of_summary
from one_process import compared
from records import read_lines
from tables import ALONE, TEACHER, by_seed, frame, gains, of_row

RELIABILITY = ROOT / 'docs/results/reliability.jsonl'
TABLE = re.compile(r'<!-- table.*?<!-- end of table -->', re.S)
CODE = re.compile(r'^```.*?^```|`[^`\n]*`|\]\([^)]*\)', re.M | re.S)
NUMBER = re.compile(r'(?<![\w.,])\d+\.\d+(?![\w]|\.\d)')
WORDS = 'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'
PKD, MSE = f'PKD, balance 1{INIT}', f'MSE, projector, balance 1{INIT}'


@pytest.fixture(scope='module')
def det():
    return frame(detection.STUDY.recorded())


@pytest.fixture(scope='module')
def cls():
    return frame(classification.STUDY.recorded())


@pytest.fixture(scope='module')
def photos():
    return frame(real.STUDY.recorded())


def check(page, expected, settings=(), complete=True):
    """The text has the expected numbers; with ``complete`` each of its decimals is one, or a table's, or a setting's.

    An integer may be written as a word, and with commas.
    """
    full = (ROOT / page).read_text()
    text = TABLE.sub(' ', full)
    for number in expected:
        forms = [f'{number:,}', *WORDS[number:number + 1]] if isinstance(number, int) else [number]
        found = rf'(?<![\w.,])({"|".join(map(re.escape, forms))})(?!\w|[.,]\d)'
        assert re.search(found, text, re.I), f'{page}: {number}'
    known = {*NUMBER.findall(' '.join(TABLE.findall(full))), *map(str, expected), *settings}
    assert not complete or [n for n in NUMBER.findall(CODE.sub(' ', text)) if n not in known] == []


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


def numbers_of_detectors(det):
    """Numbers of the method page."""
    three = 3, 4, 5
    leads = [(PKD, DEFAULT, 'reduced/fcos_fcos', three), (PKD, DEFAULT, 'reduced/retinanet_retinanet', three),
             (PKD, DEFAULT, 'reduced/yolox_yolox', three), (MSE, DEFAULT, 'reduced/yolox_yolox', three),
             *((DEFAULT, PKD, dataset, [3]) for dataset in (
                 'reduced/fcos_retinanet', 'emoji/fcos_fcos', 'reduced/atss_atss', 'reduced/faster-rcnn_faster-rcnn',
                 'reduced/faster-rcnn_fcos'))]
    shown = [ahead(det, *lead) for lead in leads]
    assert min(shown) > 0  # as the page has it
    datasets = [pair.dataset for pair in pairs_of_summary() if pair.metric == METRIC and LONG not in pair.preset]
    assert len(datasets) == 8
    shown += [statistics.mean(values(det, dataset, row, [3])[0] for dataset in datasets) for row in (DEFAULT, PKD)]
    behind = {dataset: -ahead(det, MSE, DEFAULT, dataset, three if 'yolox' in dataset else [3]) for dataset in datasets}
    close = max(abs(gap) for gap in behind.values() if gap < 1.5)
    assert sum(abs(gap) <= close for gap in behind.values()) == 6
    shown += [close, behind['reduced/faster-rcnn_fcos'], behind['reduced/faster-rcnn_faster-rcnn']]
    kinds = 'fcos', 'retinanet', 'atss', 'faster-rcnn', 'yolox'
    shown += [values(det, f'{size}/{name}', TEACHER, [0])[0]
              for size, name in (*(('reduced', kind) for kind in kinds), ('emoji', 'fcos'))]
    without = f'SRD, balance 1, no projector{INIT}'
    shown += [values(det, f'{size}/fcos_fcos', row, [3])[0]
              for row in (without, DEFAULT) for size in ('reduced', 'emoji')]
    shown += [values(det, 'reduced/fcos', f'{ALONE}, {times} × as long', [seed])[0]
              for times, seed in (('1.6', 0), ('6.4', 0), ('6.4', 3))]
    shown += values(det, 'reduced/fcos_fcos', DEFAULT + LONG, [3])
    rows = (of_row(det, 'reduced/fcos_fcos', f'{loss}, weights of a balanced run') for loss in ('SRD', 'PKD'))
    weights = [f'{float(option.partition("=")[2]):.2g}'.replace('1.7e-07', '2e-7').replace('e-0', 'e-')
               for found in rows for option in found['options'].item() if '.weight=' in option]
    assert len(weights) == 6
    own = [way(det, name, name) for name in kinds[:-1]]
    ways = [min(own), max(own), way(det, 'yolox', 'yolox'), way(det, 'fcos', 'fcos', 'emoji'),
            way(det, 'fcos', 'retinanet'), way(det, 'faster-rcnn', 'fcos')]
    return [*(f'{number:.1f}' for number in shown), *(f'{number:.0f}' for number in ways), *weights]


def way_on_photographs(photos, part, row):
    """How far students go from themselves alone to their teacher, percent, of the seeds that both have."""
    alone, own, distilled = (real.figures(photos, part, each) for each in (ALONE, TEACHER, row))
    return (100 * gains(distilled, alone) / (own[0] - alone)).mean()


def test_photographs(photos):
    chess, people = 'chess/lite2_r18w16', ['people/yolox-nano_r18w16', 'people/yolox-nano_lite0']
    srd = way_on_photographs(photos, chess, real.PRESET)
    pkd, mse = (-100 * gains(*(real.figures(photos, chess, each) for each in (row, real.PRESET))).mean()
                for row in ('PKD, balance 1', 'MSE, balance 1'))
    scratch, lite0 = (way_on_photographs(photos, part, real.PRESET) for part in people)
    ways = [f'{srd:.0f} % of the way', f'gain {pkd:.1f} points (three seeds) and {mse:.1f} (two) less than SRD',
            f'{scratch:.0f} and {lite0:.0f} % of the way']
    check('docs/en/notes/method.md', ways, complete=False)
    rows = ALONE, real.EQUAL_TIME[real.PRESET], real.PRESET
    alone, longer, preset = (real.figures(photos, chess, row)[0] for row in rows)
    points = f'{100 * (preset - alone):.1f}', f'{100 * (longer - preset):.1f}'
    check('docs/en/notes/limits.md', points, complete=False)
    ahead = 100 * gains(*(real.figures(photos, chess, row)
                          for row in (real.QUARTER, real.EQUAL_TIME[real.QUARTER]))).mean()
    for page in ('docs/en/notes/method.md', 'docs/en/user_guides/choosing.md'):
        check(page, [f'{ahead:.1f} ahead'], complete=False)
    fourth, every = (100 * gains(*(real.figures(photos, chess, each) for each in (row, ALONE))).mean()
                     for row in (real.QUARTER, real.PRESET))
    check('docs/en/user_guides/choosing.md', [f'gained {fourth:.1f} points', f'{every:.1f} with it in every step'],
          complete=False)
    start, without, tenth, one, three = (100 * gains(*(real.figures(photos, chess, each) for each in (row, ALONE)))[0]
                                         for row in ("alone, teacher's start", 'preset, without start',
                                                     'preset, balance 0.1', real.PRESET, 'preset, balance 3'))
    check('docs/en/notes/method.md', [f'without distillation gains {start:.1f}', f'without the start {without:.1f}'],
          complete=False)
    cwd, constant, published = (100 * (real.figures(photos, chess, row)[0] - alone)
                                for row in ('CWD, balance 1', 'SRD, weight 0.25', 'PKD, weight 18'))
    check('docs/en/notes/method.md', [f'the start gains {cwd:.1f}', f'and the start {constant:.1f}, PKD with',
                                      f"authors' weight {published:.1f}, less"], complete=False)
    assert max(constant, published) < start
    gfl = 100 * gains(*(real.figures(photos, 'chess/lite2_gfl-r18w16', row) for row in (real.PRESET, ALONE)))[0]
    check('docs/en/notes/method.md', [f'A GFL student gains {gfl:.1f} from'], complete=False)
    few, at_once, before = few_labels(photos)
    check('docs/en/notes/method.md', [f'has {few} alone and {at_once} with the preset', f'it has {before}'],
          complete=False)
    check('docs/en/user_guides/without_labels.md', [f'{before} mAP after this, {few} without it, and {at_once} if'],
          complete=False)
    assert one > max(tenth, three)  # balances are no better than 1, as the page has it
    own = real.figures(photos, people[1], ALONE)[0]
    one, tenth, three = (100 * (real.figures(photos, people[1], row)[0] - own)
                         for row in (real.PRESET, 'preset, balance 0.1', 'preset, balance 3'))
    check('docs/en/notes/method.md', [
        f'gains {one:.1f} points with balance 1, {tenth:.1f} with 0.1, and {three:.1f} with 3'], complete=False)
    cells = 'bccd/lite2_r18w16'
    own, by_itself, taught = (100 * real.figures(photos, cells, row)[0] for row in (TEACHER, ALONE, real.PRESET))
    check('docs/en/notes/limits.md', [f'student alone has {by_itself:.1f}, its teacher {own:.1f}',
                                      f'distilled student {taught:.1f}'], complete=False)
    check('docs/en/notes/method.md', [f'is {by_itself - own:.1f} above its teacher'], complete=False)
    less, quarter = (100 * gains(real.figures(photos, chess, row), real.figures(photos, chess, real.PRESET))
                     for row in ('preset, scale 0.5', real.QUARTER))
    check('docs/en/notes/method.md', [f'(`teacher.scale=0.5`) the student gains {100 * (preset - alone) + less[0]:.1f}',
                                      f'{-quarter.mean():.1f} points less'], complete=False)
    assert less[0] / (100 * (preset - alone)) == pytest.approx(-1 / 3, abs=0.05)  # the page on choosing: a third less
    coco = 100 * gains(*(real.figures(photos, 'coco/yolox-nano_yolox-lite0', row) for row in (real.PRESET, ALONE)))[0]
    check('docs/en/notes/method.md', [f'the student gains {coco:.1f} points'], complete=False)
    for part in (chess, *people):
        for row, times in real.LONGER[real.dataset_of(part, ALONE)].items():
            seconds, longer = (of_row(photos, real.dataset_of(part, each), each)['processor_seconds']
                               for each in (ALONE, row))
            # Two trainings of one config, one after the other, differ by up to a twentieth.
            assert (longer / seconds).mean() == pytest.approx(times, rel=0.05)


def numbers_of_classifiers(cls):
    return [f'{statistics.mean(values(cls, dataset, row, range(3), classification.METRIC, 1)):.1f}'
            for dataset in ('digits', 'fashion_mnist')
            for row in (ALONE, 'SRD', 'SRD, balance 0.3', 'SRD, balance 1', 'SRD, balance 3')] + [
        f'{values(cls, "tiny_imagenet", row, [0], classification.METRIC, 1)[0]:.1f}'
        for row in (ALONE, 'SRD + KL', TEACHER)]


def test_the_method_page(det, cls):
    # Of the rows, and of photographs; times of a step are in the page on performance.
    settings = {'0.7', '0.25', '0.06', '0.3', '1.6', '6.4'}
    check('docs/en/notes/method.md',
          [*numbers_of_detectors(det), *numbers_of_classifiers(cls), *pairs_that_pkd_leads(det)], settings)


def pairs_that_pkd_leads(det):
    """In how many pairs PKD is ahead of SRD with the same balance and start, in how many there are, and the others."""
    pairs = [pair.dataset for pair in pairs_of_summary() if pair.metric == METRIC and LONG not in pair.preset]
    seeds_of = {dataset: [set(by_seed(det, dataset, row, METRIC).index) for row in (PKD, DEFAULT)] for dataset in pairs}
    both = {dataset: sorted(set.intersection(*seeds)) for dataset, seeds in seeds_of.items()}
    worse = len([dataset for dataset, seeds in both.items() if ahead(det, PKD, DEFAULT, dataset, seeds) > 0])
    return [worse, len(pairs), len(pairs) - worse]


def few_labels(photos):
    return [f'{100 * real.figures(photos, "chess/lite2_r18w16", row)[0]:.1f}'
            for row in (real.TENTH, real.TENTH_PRESET, real.TENTH_PRETRAINED)]


def test_the_readme(photos):
    few, at_once, before = few_labels(photos)
    check('README.md', [f'{few} mAP alone, {at_once} with mmsrd, and {before} after'], complete=False)
    versions = {'3.8', '3.13', '2.0', '0.8', '2.1', '3.0', '3.3', '1.0', '1.2', '3.10', '3.12'}
    check('README.md', [few, at_once, before], versions)


def test_the_guides(det):
    alone, crops = (statistics.mean(values(det, dataset, row, used)) for dataset, row, used in (
        ('reduced/fcos', ALONE, by_seed(det, 'reduced/fcos', ALONE, METRIC).index),
        ('reduced/fcos_fcos', 'SRD, a classifier teaches', range(3))))
    detector = statistics.mean(values(det, 'reduced/fcos_fcos', 'SRD', range(4)))
    check('docs/en/user_guides/foundation_teachers.md', [f'{x:.1f}' for x in (alone, crops, detector)], {'1.0', '2.0'})
    own = [way(det, *pair) for pair in (('fcos', 'fcos'), ('retinanet', 'retinanet'), ('atss', 'atss'),
                                        ('faster-rcnn', 'faster-rcnn'), ('yolox', 'yolox'), ('fcos', 'fcos', 'emoji'))]
    others = [way(det, *pair) for pair in (('faster-rcnn', 'fcos'), ('fcos', 'retinanet'))]
    # Numbers of photographs are checked above.
    check('docs/en/user_guides/choosing.md', [f'{x:.0f}' for x in (min(own), max(own), *others)],
          {'0.1', '0.3', '1.0', '2.8', '3.2'})
    check('docs/en/user_guides/classifiers.md', [])
    check('docs/en/user_guides/logs_and_report.md', [f'{math.log(12):.2f}'], complete=False)


def test_the_page_on_projectors():
    by_chance = [f'{math.sqrt(2 / (math.pi * rows)):.2f}' for rows in (50, 2048, 128)]
    check('docs/en/notes/projectors.md', by_chance, {'0.25'})


def test_the_page_on_reliability():
    newest = {(record['trial'], record.get('processes')): record for record in read_lines(RELIABILITY)}
    one, two = newest['kill', 1], newest['kill', 2]
    each, = {one['moments'][moment] + two['moments'][moment] for moment in one['moments']}
    disks, nodes, blocks, long = (newest[key] for key in (
        ('disks', None), ('nodes', 4), ('bad_configs', None), ('soak_training', 2)))
    phases = [long[f'process {rank}, {phase}'] for rank in (0, 1) for phase in ('before', 'during', 'after')]
    slopes = [f'{phase["mib_per_1000"]:.2f}'.replace('-', '−') for phase in phases if phase['mib_per_1000'] is not None]
    check('docs/en/notes/reliability.md', [
        one['kills'] + two['kills'], one['kills'], two['kills'], each, len(one['moments']),
        sum(disks['faults'].values()), min(disks['faults'].values()), len(disks['faults']), disks['went_on'],
        nodes['losses'], nodes['trainings'], nodes['processes'] // nodes['nodes'],
        blocks['count'], blocks['outcomes']['trained'], len(blocks['outcomes']) - 1,
        long['iterations'], long['processes'], sum(phase['looks'] for phase in phases[:3]), *slopes[:2],
    ], complete=False)
    held = {key: max(phase['spread'][key] for phase in phases) for key in phases[0]['spread']}
    assert held.pop('tensors') == 3
    assert not any(held.values())


def test_the_counts_of_the_model_zoos():
    """Folders that train, with both teachers too, as the README and the guides say."""
    newest = {(record['package'], record['folder']): record for record in read_lines(ROOT / 'docs/results/zoo.jsonl')}
    counts = {package: sum(record['alone'] == record.get('family') == record.get('other') == 'ok'
                           for (of, _), record in newest.items() if of == package)
              for package in ('mmdet', 'mmpretrain', 'mmseg', 'mmpose', 'mmyolo', 'mmrotate')}
    check('README.md', [counts['mmdet'] + counts['mmpretrain'], *counts.values()], complete=False)
    check('docs/en/advanced_guides/other_toolboxes.md', list(counts.values())[2:], complete=False)


def performance(name):
    return json.loads((ROOT / f'docs/results/performance/{name}.json').read_text())


def test_the_targets_on_a_cpu():
    turns = {pair: performance(f'one_process_{pair}')['turns'] for pair in ('fcos', 'resnet')}
    ratios = {pair: compared(found) for pair, found in turns.items()}
    names = list(ratios['fcos'])
    exact = [names[i] for i in (0, 1, 2, 5)]
    step, balance, ended, checked = ([f'{statistics.median(found[name]):.3f}' for found in ratios.values()]
                                     for name in exact)
    cheaper = [f'{statistics.median(found[name]):.3f}' for name in names[3:5] for found in ratios.values()]
    times = [f'{statistics.median(turn[name] for turn in turns["fcos"]):.0f}' for name in ('ours', 'plain', 'teacher')]
    widest = max(abs(quartile / statistics.median(values) - 1) for found in ratios.values()
                 for name, values in found.items() if name in exact
                 for quartile in statistics.quantiles(values, n=4))
    memory, = (row['memory_ratio'] for row in performance('fcos_cpu_none')['rows'] if row['variant'] == 'ours')
    start = performance('startup')
    later = [ours - plain for plain, ours in zip(start['plain'], start['distilled'])]
    seconds = statistics.median(later), min(later), max(later), start['teacher_seconds']
    check('docs/en/notes/performance.md', [
        *step, *ended, balance[0], *checked, *cheaper, *times, len(turns['fcos']), math.ceil(100 * widest),
        f'{memory:.2f}', *(f'{value:.1f}' for value in seconds), len(later)], complete=False)
