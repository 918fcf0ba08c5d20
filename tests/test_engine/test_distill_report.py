"""The report of a training: what is on the page, and that the training does not notice it."""
from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import report
import torch
from helpers.processes import run_cases
from helpers.weights import same
from mmengine.registry import VISBACKENDS
from mmengine.visualization import LocalVisBackend
from PIL import Image

from mmsrd.compat.torch_versions import TORCH
from mmsrd.config.checks import read_optional
from mmsrd.config.distill_config import ReportConfig
from mmsrd.engine.hooks import DistillReportHook, TeacherCheckHook, distill_report_hook
from mmsrd.errors import ConfigError, ConfigTypeError, UnknownKeyError
from mmsrd.report import PAGE

SHORT = {'log_level': 'INFO', 'default_hooks.logger.interval': 2}


class Page(HTMLParser):
    """What a page says and shows."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.pictures, self.links = [], {}, []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == 'img':
            self.pictures[given['alt']] = np.asarray(Image.open(io.BytesIO(b64decode(given['src'].partition(',')[2]))))
        elif given.get('src') or given.get('href', '#')[0] != '#':
            self.links.append(given)

    def handle_data(self, data):
        self.texts.append(data)

    def after(self, text):
        """What is said next."""
        return self.texts[self.texts.index(text) + 1]


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def metric_of(runner):
    records = [json.loads(line) for line in next(Path(runner.log_dir).rglob('scalars.json')).open()]
    return 100 * [record['coco/bbox_mAP'] for record in records if 'coco/bbox_mAP' in record][-1]


def test_the_page(make_runner, teacher, coco):
    block, own = teacher
    figure = 100 * own.val()['coco/bbox_mAP']
    alone = make_runner('alone', **SHORT)
    alone.train()
    runner = make_runner('run', dict(teacher=block, report=dict(images=3, baseline=alone.work_dir)), **SHORT)
    runner.train()
    assert 'could not be' not in log_of(runner)
    assert 'nothing to learn' not in log_of(runner)
    page = Page(Path(runner.work_dir, PAGE))
    assert not page.links
    assert page.after('Student, distilled') == f'{metric_of(runner):.1f}'
    assert page.after('Student alone') == f'{metric_of(alone):.1f}'
    assert page.after('Gain') == f'{metric_of(runner) - metric_of(alone):+.1f}'
    assert page.after('Teacher') == f'{figure:.1f}'
    assert {'Alignment by level', 'Balance by level', 'Losses of the student', 'neck[0]', block['config']} <= \
        set(page.texts)
    shown = sorted(page.pictures)
    assert sorted(name.partition(':')[0] for name in shown) == sorted(
        ['ground truth', 'student', 'student alone', 'teacher'] * 3)
    # The teacher knows all boxes of images of odd ids, the student none.
    ids = {Path(image['file_name']).name: image['id'] for image in json.loads(
        (coco / 'annotations/val.json').read_text())['images']}
    name = next(name.partition(': ')[2] for name in shown if ids[name.partition(': ')[2]] % 2)
    image = cv2.imread(str(next(coco.rglob(f'val/{name}'))))
    plain = cv2.imdecode(cv2.imencode('.jpg', image)[1], cv2.IMREAD_COLOR)[..., ::-1].astype(int)  # as on the page
    differs = {column: int((np.abs(page.pictures[f'{column}: {name}'] - plain).max(2) > 60).sum())
               for column in ('ground truth', 'teacher', 'student')}
    # Before MMDetection 3.1 the visualizer resamples the image, which changes some pixels without a box.
    assert min(differs['ground truth'], differs['teacher']) > 3 * differs['student'], differs


def test_a_teacher_that_is_no_better_than_the_baseline(make_runner, teacher, tmp_path):
    """It is said before training."""
    written = tmp_path / 'alone/20260101_000000/vis_data/scalars.json'
    written.parent.mkdir(parents=True)
    written.write_text(''.join(json.dumps({'coco/bbox_mAP': value, 'time': 0.1, 'step': step}) + '\n'
                               for step, value in ((4, 0.99), (8, 0.01))))
    report = dict(images=0, baseline=str(tmp_path / 'alone'))
    runner = make_runner('run', dict(teacher=teacher[0], report=report), **SHORT)
    runner.train()
    text = log_of(runner)
    said = re.search(r'The teacher .* has coco/bbox_mAP = 0\.\d+ on 4 validation images, and the student alone .* has '
                     r'reached 0\.99: there may be nothing to learn from it', text)
    assert said
    assert text.index(said[0]) < text.index('Epoch(train)')


def boxes_drawn(page, column):
    """Pixels of a column's pictures that differ from the student's, which knows no box."""
    names = [name.partition(': ')[2] for name in page.pictures if name.startswith(f'{column}: ')]
    return sum(int((np.abs(page.pictures[f'{column}: {name}'].astype(int) - page.pictures[f'student: {name}']).max(2)
                    > 60).sum()) for name in names)


@pytest.mark.parametrize('first', ['Resize', 'LoadAnnotations'])
def test_the_pipeline_of_the_toolbox(make_runner, teacher, first):
    """It loads annotations, as objects that know what kind of boxes they are; boxes are where they are in the file."""
    steps = [dict(type='Resize', scale=(32, 32)), dict(type='LoadAnnotations', with_bbox=True)]
    packing = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
    pipeline = [dict(type='LoadImageFromFile'), *steps[::1 if first == 'Resize' else -1], packing]
    pages = []
    for name, overrides in (('plain', {}), ('loading', {'val_dataloader.dataset.pipeline': pipeline})):
        runner = make_runner(name, dict(teacher=teacher[0], report=dict(images=4)), **SHORT, **overrides)
        runner.train()
        assert 'could not be' not in log_of(runner)
        pages.append(Page(Path(runner.work_dir, PAGE)))
    assert sorted(pages[0].pictures) == sorted(pages[1].pictures)
    for name in (name for name in pages[0].pictures if name.startswith('ground truth')):
        assert np.array_equal(pages[0].pictures[name], pages[1].pictures[name])
    assert boxes_drawn(pages[1], 'ground truth') > 100


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_pictures_of_a_teacher_in_half_precision(make_runner, distill, precision):
    """Its head decodes boxes in float32; its features stay as they were."""
    if precision == 'fp16' and TORCH < (2, 4):
        pytest.skip('autocast on a CPU knows bfloat16 alone')
    distill['teacher']['inference'] = dict(precision=precision)
    runner = make_runner('run', {**distill, 'teacher': {**distill['teacher'], 'check': dict(images=2)},
                                 'report': dict(images=2)}, **SHORT)
    runner.train()
    assert 'could not be' not in log_of(runner)
    assert 'cannot be evaluated' not in log_of(runner)
    shown = Page(Path(runner.work_dir, PAGE)).pictures
    assert sum(name.startswith('teacher') for name in shown) == 2
    stored = {parameter.dtype for parameter in runner.model.distiller.teacher.model.parameters()}
    assert (torch.bfloat16 if precision == 'bf16' else torch.float16) in stored


def test_a_teacher_that_is_freed_before_the_first_validation(make_runner, teacher):
    """It has no pictures; everybody else has."""
    runner = make_runner('run', dict(teacher=teacher[0], report=dict(images=1), schedule=dict(end=1)), **SHORT)
    runner.train()
    assert 'could not be' not in log_of(runner)
    shown = Page(Path(runner.work_dir, PAGE)).pictures
    assert sorted(name.partition(':')[0] for name in shown) == ['ground truth', 'student']


def test_training_is_the_same_with_it(make_runner, distill):
    """And ``scalars.json`` has what the page shows by level."""
    weights = []
    for name, asked in (('with', dict(images=2)), ('without', False)):
        runner = make_runner(name, {**distill, 'report': asked}, **SHORT)
        runner.train()
        weights.append(runner.model.state_dict())
        assert Path(runner.work_dir, 'distill_report').is_dir() == (name == 'with')
        if name == 'with':
            records = [json.loads(line) for line in next(Path(runner.log_dir).rglob('scalars.json')).open()]
    assert same(*weights)
    levels = [record for record in records if 'srd_level_alignment/neck.0' in record]
    assert [record['step'] for record in levels] == [2, 4, 6, 8]
    assert all(-1 <= record[f'srd_level_alignment/neck.{level}'] <= 1 for record in levels for level in range(3))


def test_levels_are_logged_where_not_all_steps_are_distilled(make_runner, distill):
    """The first distilled step after one that is logged."""
    hook = dict(type='mmsrd.ProjectorDiagnosticsHook', interval=2)
    runner = make_runner('run', {**distill, 'report': dict(images=0), 'schedule': dict(start=1, interval=3)},
                         custom_hooks=[hook], **SHORT)
    runner.train()
    records = [json.loads(line) for line in next(Path(runner.log_dir).rglob('scalars.json')).open()]
    looks = [record['step'] for record in records if 'srd_effective_rank/neck.0' in record]
    levels = [record['step'] for record in records if 'srd_level_alignment/neck.0' in record]
    assert looks == [2, 5, 8]  # the distilled steps
    assert levels == [2, 2, 5, 5, 8, 8]  # by both hooks


def test_a_failure_is_survived(make_runner, distill, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(distill_report_hook, 'write_report', full)
    runner = make_runner('run', {**distill, 'report': True}, **SHORT)
    runner.train()
    assert runner.iter == 8
    assert 'WARNING - The distillation report could not be written (OSError: [Errno 28] No space left' in log_of(runner)


def test_a_service_that_refuses_pictures_is_survived(make_runner, distill, monkeypatch):
    class Service:
        def add_image(self, *args, **kwargs):
            raise ConnectionError('no route to host')

    monkeypatch.setattr(distill_report_hook, 'services', lambda runner: [Service()])
    runner = make_runner('run', {**distill, 'report': dict(images=1)}, **SHORT)
    runner.train()
    assert runner.iter == 8
    assert log_of(runner).count('could not be sent to Service (ConnectionError: no route to host)') == 1


def test_a_hook_of_the_config_replaces_it(make_runner, distill):
    runner = make_runner('run', {**distill, 'report': True}, custom_hooks=[
        dict(type='mmsrd.DistillReportHook', images=0, metric='coco/bbox_mAP_50')], **SHORT)
    assert [hook.images for hook in runner.hooks if isinstance(hook, DistillReportHook)] == [0]
    runner.train()
    assert [hook for hook in runner.hooks if isinstance(hook, (TeacherCheckHook, DistillReportHook))][1].images == 0
    page = Page(Path(runner.work_dir, PAGE))
    assert 'coco/bbox_mAP_50 by iteration' in page.texts
    assert not page.pictures


def test_classifiers(make_classifier_runner):
    """Labels are written, and where they are wrong is said so."""
    runner = make_classifier_runner('run', 1.0, **{'distill.report': dict(images=4, _delete_=True), 'log_level': 'INFO',
                                                   'train_cfg.val_interval': 1})
    runner.train()
    page = Page(Path(runner.work_dir, PAGE))
    assert page.after('Student, distilled') != '–'
    assert 'could not be' not in log_of(runner)
    labels = [text for text in page.texts if re.fullmatch(r'\d \(\d+%\)(, wrong)?', text)]
    assert len(labels) == 4 * 2  # of the teacher and the student
    assert any(text.endswith('wrong') for text in labels)  # neither has learned anything
    assert len(page.pictures) == 4 * 3


def test_report_of_several_runs(tmp_path):
    """Made from logs afterwards."""
    for seed, value in ((0, 0.4), (1, 0.5)):
        path = tmp_path / f'srd/seed{seed}/1/vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        records = dict(iter=5, step=5, time=1.0, loss=2.0), {'coco/bbox_mAP': value, 'time': 0.1, 'step': 1}
        path.write_text('\n'.join(map(json.dumps, records)))
    dirs = sorted((tmp_path / 'srd').iterdir())
    report.main([*map(str, dirs), '--baseline', str(dirs[0]), '--out', str(tmp_path / 'page.html')])
    page = Page(tmp_path / 'page.html')
    assert page.after('Student, distilled') == '45.0 ± 7.1'
    assert page.after('Gain') == '+5.0 ± 7.1'
    assert {'distilled: seed0', 'distilled: seed1', 'student alone'} <= set(page.texts)
    with pytest.raises(SystemExit, match='nothing was logged there'):
        report.main([str(tmp_path)])


@pytest.mark.slow
def test_services(tmp_path):
    """TensorBoard and Weights & Biases, in a process that finds the latter."""
    assert run_cases('wandb', 'test_engine/services_cases.py', tmp_path) == 1


@pytest.mark.parametrize(('block', 'kind', 'message'), [
    ('yes', ConfigTypeError, "distill.report = 'yes'"), (dict(image=3), UnknownKeyError, "unknown key 'image'"),
    (dict(images=-1), ConfigError, 'distill.report.images = -1'), (dict(baseline=3), ConfigTypeError, 'baseline = 3')])
def test_config_errors(block, kind, message):
    with pytest.raises(kind, match=message):
        read_optional(ReportConfig, 'distill.report', block)


def test_no_baseline_there(make_runner, distill):
    runner = make_runner('run', {**distill, 'report': dict(baseline='nowhere')})
    with pytest.raises(ConfigError, match=r"distill.report.baseline = 'nowhere': there is no such directory"):
        runner.train()


def test_a_baseline_in_the_same_directory(make_runner, distill, tmp_path, monkeypatch):
    """Where ``train.py S`` and ``train.py S --teacher T`` both go by default."""
    monkeypatch.setenv('HOME', str(tmp_path))
    runner = make_runner('run', {**distill, 'report': dict(baseline='~/run')})
    with pytest.raises(ConfigError, match=r"distill.report.baseline = '.*/run': is the work directory of this"):
        runner.train()


def test_a_visualizer_that_draws_no_boxes(make_runner, teacher):
    """MMEngine's own, where a config names none."""
    runner = make_runner('run', dict(teacher=teacher[0], report=dict(images=1)), **SHORT, **{
        'visualizer.type': 'mmengine.Visualizer'})
    runner.train()
    assert 'could not be' not in log_of(runner)
    shown = [name.partition(':')[0] for name in Page(Path(runner.work_dir, PAGE)).pictures]
    assert sorted(shown) == ['ground truth', 'student', 'teacher']


@VISBACKENDS.register_module(force=True)
class CountingBackend(LocalVisBackend):
    """Counts records as W&B does: each call is one, unless it is told not to commit."""

    def __init__(self, **options):
        super().__init__(**options)
        self._commit = True
        self.records = []

    def add_scalars(self, scalars, step=0, file_path=None):
        if self._commit:
            self.records.append(sorted(scalars))

    def add_image(self, name, image, step=0, **options):
        if self._commit:
            self.records.append(name)


def test_services_that_count_records(make_runner, distill, tmp_path):
    """A distilled run has as many as the student alone, so that their curves meet."""
    backend = dict(type='CountingBackend', save_dir=str(tmp_path))
    counts = []
    for name, block in (('alone', None), ('run', {**distill, 'report': dict(images=1)})):
        backends = {'visualizer.vis_backends': [dict(type='LocalVisBackend'), backend]}
        runner = make_runner(name, block, **SHORT, **backends)
        runner.train()
        counts.append(len(runner.visualizer._vis_backends['CountingBackend'].records))
        assert runner.visualizer._vis_backends['CountingBackend']._commit
    assert counts[0] == counts[1] > 4
