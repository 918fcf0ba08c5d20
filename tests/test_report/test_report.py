"""Logs, comparisons and charts against what was written into them by hand."""
from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from mmsrd.errors import MMSRDError
from mmsrd.report import Comparison, Group, ReportNotes, RunLog, main_metric, write_report
from mmsrd.report.charts import POINTS, Chart, Line
from mmsrd.report.comparison import mean_and_spread, scale_of


def train(step, time=1.0, **scalars):
    return dict(iter=step, step=step, time=time, loss=3.0, loss_srd_neck=1.0, loss_cls=2.0, **scalars)


def val(step, value):
    return dict({'coco/bbox_mAP': value}, step=step, time=0.1, data_time=0.1)


def write(folder, start, records, end=''):
    path = folder / start / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)) + end)


@pytest.fixture
def log(tmp_path):
    """Ends in the middle of its second epoch, of four iterations, and is resumed from the end of the first."""
    write(tmp_path, '1', [train(2), train(4), val(1, 0.3), train(6, 2.0), {'srd_balance/neck.0': 0.5, 'step': 6}],
          end='\n{"iter": 7, "st')
    write(tmp_path, '2', [train(6, 3.0), {'srd_balance/neck.0': 0.7, 'step': 6}, train(8, 3.0), val(2, 0.5)])
    return RunLog.from_work_dir(tmp_path, 'run')


def test_a_resumed_training(log):
    assert [record['step'] for record in log.training] == [2, 4, 6, 8]
    assert [(v.step, v.metrics) for v in log.validations] == [(4, {'coco/bbox_mAP': 0.3}), (8, {'coco/bbox_mAP': 0.5})]
    assert log.curves('srd_balance/') == {'neck.0': [(6, 0.7)]}
    # 4 iterations of 1 s; the first record after a validation would have its time, too; 2 iterations of 3 s.
    assert [v.seconds for v in log.validations] == [4, 4 + 2 * 1 + 2 * 3]
    assert log.own_loss() == [(step, 2.0) for step in (2, 4, 6, 8)]
    assert log.metric('coco/bbox_mAP', in_time=True) == [(4 / 60, 0.3), (12 / 60, 0.5)]
    assert main_metric([log]) == 'coco/bbox_mAP'


def test_names_with_hierarchy(tmp_path):
    """``log_processor.log_with_hierarchy``; and the slash that version 0.1.0 had in names of training."""
    own = {f'train/{name}': value for name, value in train(2).items() if name not in ('iter', 'step')}
    write(tmp_path, '1', [{**own, 'iter': 2, 'step': 2, 'train/srd_alignment/neck': 0.5},
                          {'val/coco/bbox_mAP': 0.3, 'val/time': 0.1, 'step': 2}])
    (tmp_path / '1/vis_data/config.py').write_text('log_processor = dict(log_with_hierarchy=True)')
    log = RunLog(tmp_path)
    assert log.own_loss() == [(2, 2.0)]
    assert log.seconds == 2
    assert log.metric('coco/bbox_mAP') == [(2, 0.3)]
    assert log.curves('srd_alignment_') == {'neck': [(2, 0.5)]}


def test_time_of_a_validation_within_an_interval(tmp_path):
    """It is in the next record of a loop by iterations, and not counted as time of training."""
    write(tmp_path, '1', [train(3), val(4, 0.3), train(6, 9.0), val(6, 0.4), train(9, 7.0)])
    assert RunLog(tmp_path).seconds == 9


@pytest.mark.parametrize(('loop', 'steps'), [
    ("dict(type='IterBasedTrainLoop', max_iters=12, val_interval=3)", [3, 6, 9, 12]),
    ("dict(type='IterBasedTrainLoop', max_iters=11, val_interval=3)", [3, 6, 9, 11]),  # and at the end
    ("dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)", [1, 5, 5, 10]), (None, [1, 5, 5, 10])])
def test_validations_between_two_records(tmp_path, loop, steps):
    """MMEngine counts them in epochs, also in a training by iterations; the config beside the log has the interval."""
    write(tmp_path, '1', [val(1, 0.1), train(5), val(1, 0.2), val(1, 0.3), train(10), val(1, 0.4)])
    if loop is not None:
        (tmp_path / '1/vis_data/config.py').write_text(f'train_cfg = {loop}\n')
    assert [validation.step for validation in RunLog(tmp_path).validations] == steps


def test_losses_of_a_classifier(tmp_path):
    """Its only loss is named as the sum, in whose place MMEngine logs it."""
    record = train(4)
    del record['loss_cls']
    write(tmp_path, '1', [train(2), record])
    assert RunLog(tmp_path).own_loss() == [(2, 2.0), (4, 3.0)]


def test_losses_where_not_all_steps_are_distilled(tmp_path):
    """MMEngine's means over ten steps are of those that have the value."""
    write(tmp_path, '1', [{**train(2), 'loss': 2.25}])  # the distiller's in every fourth step
    assert RunLog(tmp_path).own_loss() == [(2, 2.0)]


def test_losses_that_are_logged_twice(tmp_path):
    """As MMEngine's documentation of its log processor has it."""
    write(tmp_path, '1', [train(2, loss_large_window=3.1)])
    (tmp_path / '1/vis_data/config.py').write_text(
        "log_processor = dict(custom_cfg=[dict(data_src='loss', log_name='loss_large_window', method_name='mean')])")
    assert RunLog(tmp_path).own_loss() == [(2, 2.0)]


def test_losses_without_labels(tmp_path):
    write(tmp_path, '1', [dict(iter=2, step=2, time=1.0, loss=2.5, loss_srd_a=1.0, loss_srd_b=1.5)])
    assert RunLog(tmp_path).own_loss() == []


@pytest.mark.parametrize(('metric', 'scale'), [
    ('lvis/bbox_AP', 100), ('lvis/segm_APr', 100), ('coco/person_precision', 100), ('coco/AP', 100),
    ('coco/AR@100', 100), ('single-label/precision', 1), ('mIoU', 1), ('coco_panoptic/PQ', 1)])
def test_fractions_and_percentages(metric, scale):
    assert scale_of(metric) == scale


def test_a_run_that_was_started_anew_forgets_the_old_one(tmp_path, log):
    write(tmp_path, '3', [train(2), val(1, 0.1)])
    again = RunLog(tmp_path)
    assert [record['step'] for record in again.training] == [2]
    assert [v.metrics['coco/bbox_mAP'] for v in again.validations] == [0.1]


def test_nothing_was_logged(tmp_path):
    with pytest.raises(MMSRDError, match='nothing was logged there'):
        RunLog.from_work_dir(tmp_path)
    assert RunLog(tmp_path).seconds_per_step == 0


def group(tmp_path, name, seconds, *curves):
    """Validations every 10 iterations."""
    runs = []
    for i, values in enumerate(curves):
        records = [record for j, value in enumerate(values, 1)
                   for record in (train(10 * j, seconds), val(10 * j, value))]
        write(tmp_path / f'{name}{i}', '1', records)
        runs.append(RunLog(tmp_path / f'{name}{i}'))
    return Group(name, runs, 'coco/bbox_mAP', 100.0)


def test_comparison(tmp_path):
    distilled = group(tmp_path, 'distilled', 1.5, [0.4, 0.6, 0.7], [0.4, 0.6, 0.8])
    compared = Comparison(distilled, group(tmp_path, 'alone', 1.0, [0.3, 0.4, 0.5]))
    assert compared.gain() == pytest.approx([20, 30])
    assert compared.cost_of_step() == pytest.approx(1.5)
    # After the 30 s that those alone have had, the distilled ones have done 20 iterations.
    assert compared.gain(in_time=True) == pytest.approx([10, 10])
    assert compared.time_to_match() == pytest.approx(22.5 / 30)  # 50 points half-way between iterations 10 and 20
    worse = Comparison(group(tmp_path, 'worse', 1.0, [0.2]), compared.alone)
    assert worse.gain() == pytest.approx([-10])
    assert worse.time_to_match() is None
    early = group(tmp_path, 'early', 1.0, [0.2])
    early.runs[0].validations[0] = early.runs[0].validations[0].__class__(5, 5.0, {'coco/bbox_mAP': 0.2})
    assert Comparison(early, compared.alone).gain() == []  # there is nothing yet to compare it with
    assert mean_and_spread(distilled.last()) == '75.0 ± 7.1'


def test_metrics_of_several_kinds_and_one_that_does_not_exist(tmp_path):
    """Fractions become points, each metric by itself; an unknown one is answered with those that there are."""
    metrics = {'accuracy/top1': 0.6, 'coco/bbox_mAP': 0.25, 'coco_panoptic/PQ': 52.1}
    write(tmp_path, '1', [train(5), {**metrics, 'time': 0.1, 'step': 1}])
    write_report([RunLog(tmp_path)], tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text(encoding='utf-8')
    assert all(f'<td>{cell}</td>' in text for cell in ('0.6', '25.0', '52.1'))
    write_report([RunLog(tmp_path)], tmp_path / 'page.html', metric='bbox_mAP')
    assert 'No validation has &#x27;bbox_mAP&#x27;; known metrics: accuracy/top1, coco/bbox_mAP, ' in \
        (tmp_path / 'page.html').read_text(encoding='utf-8')


def test_a_metric_that_is_a_percentage_already(tmp_path):
    """As the teacher's figure shows, though the student is below 1 %."""
    write(tmp_path, '1', [train(5), {'mine/mAP': 0.4, 'multi-label/mAP': 70.8, 'PCKh': 0.9, 'time': 0.1, 'step': 1}])
    teacher = dict(name='', config='c', checkpoint='f', images=9, metrics={'mine/mAP': 41.0})
    ReportNotes(teachers=[teacher]).write(tmp_path)
    write_report([RunLog(tmp_path)], tmp_path / 'page.html', metric='mine/mAP')
    text = (tmp_path / 'page.html').read_text(encoding='utf-8')
    assert all(f'<td>{cell}</td>' in text for cell in ('0.4', '70.8', '0.9', '41.0'))
    assert '<b>41.0</b>' in text
    assert '<b>0.4</b>' in text


def test_chart():
    """A line of many points is thinned by averaging; colours are the page's, at all places."""
    count = 4 * POINTS
    points = [(float(x), float(x % 4)) for x in range(count)]
    svg = Chart('a & b', [Line('', points), Line('x', [(0, 1.0), (count, 2.0)], 1, band=[(0.5, 1.5), (1, 3)])],
                level=('teacher', 2.5)).svg()
    # In HTML, xlink need not be declared.
    root = ElementTree.fromstring(svg.replace('<svg ', '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
    assert root.get('aria-label') == 'a & b'
    assert root.get('width') is None
    paths = [element.get('d') for element in root.iter() if element.tag.endswith('path')
             and 'stroke: var(--series-0)' in (element.get('style') or '')]
    longest = max(paths, key=len)
    ys = {line.split()[2] for line in longest.splitlines() if line.startswith(('M', 'L'))}
    assert len(ys) == 1  # the mean of 0, 1, 2, 3
    assert len(longest.splitlines()) <= POINTS
    assert '#f000' not in svg


@pytest.mark.parametrize(('values', 'logarithmic'), [((1, 1e-6), True), ((1, 2), False)])
def test_logarithmic_axis(values, logarithmic):
    svg = Chart('c', [Line('', list(enumerate(values)))], logarithmic=True).svg()
    assert ('10^{' in svg or '−' in svg) == logarithmic
