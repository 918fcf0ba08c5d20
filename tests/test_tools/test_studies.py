"""The studies and their data: what is recorded is what is shown."""
from __future__ import annotations

import contextlib
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.processes import ROOT, python
from mmengine.config import Config

sys.path.insert(0, str(ROOT / 'tools' / 'studies'))
import classification
import detection
import detection_rows
import method
import plots
import prepare_data
import runs
from study import Choice, between

STUDIES = pytest.mark.parametrize('study', [classification.STUDY, detection.STUDY], ids=lambda study: study.name)


def record(job, metrics, alignment=None):
    return json.loads(json.dumps(dict(**vars(job), metrics=metrics, alignment=alignment or {})))


def test_table_takes_gains_seed_by_seed(tmp_path):
    choice = Choice(Path('w'), parts=('digits',), seeds=(0, 1))
    jobs = {(j.row, j.seed): j for j in classification.students(choice)}
    teacher, weights = classification.teacher_of(jobs['SRD', 0], choice)
    assert str(weights) == 'w/digits/teacher/seed0/epoch_30.pth'
    assert f'distill.teacher.checkpoint={weights}' in jobs['SRD', 0].options
    assert classification.teacher_of(jobs['student alone', 0], choice) is None
    accuracy = {('student alone', 0): 80, ('student alone', 1): 90, ('SRD', 0): 85, ('SRD', 1): 91}
    lines = [record(teacher, {'accuracy/top1': 99.5}),
             *(record(jobs[k], {'accuracy/top1': v}, dict(feature=0.5) if k[0] == 'SRD' else None)
               for k, v in accuracy.items())]
    results = tmp_path / 'results.jsonl'
    results.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    assert classification.table(runs.recorded([teacher, *jobs.values()], results)).splitlines()[2:] == [
        '| digits, 100 labels | teacher | 1 | 99.50 |  |  |',
        '| digits, 100 labels | student alone | 2 | 85.00 ± 7.07 |  |  |',
        '| digits, 100 labels | SRD | 2 | 88.00 ± 4.24 | +3.00 ± 2.83 | 0.50 |']


def test_detectors_of_other_kinds_are_compared_with_the_same_student_alone():
    choice = Choice(Path('w'), parts=('reduced/fcos_fcos', 'reduced/faster-rcnn_fcos'), seeds=(0,))
    jobs = detection.students(choice)
    alone, = (job for job in jobs if job.row == 'student alone')
    mixed, = (job for job in jobs if (job.dataset, job.row) == ('reduced/faster-rcnn_fcos', 'SRD'))
    assert detection.teacher_of(mixed, choice)[0].config == 'configs/composed/faster-rcnn_r18w32_128.py'
    records = {alone: record(alone, {'coco/bbox_mAP': 0.4, 'coco/bbox_mAP_50': 0.5}),
               mixed: record(mixed, {'coco/bbox_mAP': 0.425, 'coco/bbox_mAP_50': 0.625}, dict(neck=0.75))}
    assert detection.table(records).splitlines()[2:] == [
        '| reduced | FCOS | student alone | 1 | 40.0 |  | 50.0 |  |',
        '| reduced | Faster R-CNN → FCOS | SRD | 1 | 42.5 | +2.5 | 62.5 | 0.75 |']


def test_the_record_of_a_row_shows_its_whole_block():
    choice = Choice(Path('w'), parts=('reduced/fcos_fcos',), rows=('SRD, balance 1, projector of 2 layers',))
    job, = detection.students(choice)
    assert job.options[:-1] == (
        'distill.losses._delete_=True', 'distill.losses.neck.type=SRDLoss', 'distill.losses.neck.student=neck',
        'distill.losses.neck.teacher=neck', 'distill.losses.neck.alpha=4.0', 'distill.losses.neck.balance=1.0',
        'distill.losses.neck.projector.type=MLPProjector', 'distill.losses.neck.projector.layers=2')
    block = Config.fromfile(str(ROOT / job.config)).distill.losses  # of the row that the configs have
    assert block.to_dict() == dict(neck=detection_rows.SRD)


@pytest.mark.parametrize(('end', 'count', 'option'), [(', SGD', 9, 'optim_wrapper.optimizer.type=SGD'),
                                                      (', 4 × as long', 6, 'train_cfg.max_iters=4800')])
def test_rows_that_are_trained_in_another_way_are_compared_with_it(end, count, option):
    choice = Choice(Path('w'), parts=('reduced/fcos_fcos', 'reduced/faster-rcnn_fcos'), seeds=(0,))
    jobs = {job.row: job for job in detection.students(choice) if job.row.endswith(end)}
    assert len(jobs) == count
    assert all(option in job.options for job in jobs.values())
    alone = jobs['student alone' + end]
    assert detection.alone_of('reduced/fcos_fcos', 'SRD' + end) == (alone.dataset, alone.row)
    assert detection.alone_of('reduced/fcos_fcos', 'SRD') == ('reduced/fcos', 'student alone')


@STUDIES
def test_every_job_has_its_configs(study):
    jobs = study.everything()
    assert len(jobs) == len(set(jobs)) > 50
    places = [(job.dataset, job.row, job.seed) for job in jobs]
    assert len(places) == len(set(places))  # each has a work directory of its own
    assert not [job.config for job in jobs if not (ROOT / job.config).is_file()]


def test_results_of_other_settings_do_not_count(tmp_path):
    job, other = (runs.Job('d', 'r', 0, 'c.py', options) for options in ((), ('train_cfg.max_epochs=1',)))
    results = tmp_path / 'results.jsonl'
    results.write_text(''.join(json.dumps(record(other, {'a': a})) + '\n' for a in (50, 60)))
    assert runs.recorded([job], results) == {}
    assert runs.recorded([other], results)[other]['metrics']['a'] == 60  # the newest


@STUDIES
def test_the_readme_shows_the_recorded_results(study):
    readme = (ROOT / study.readme).read_text()
    assert study.with_table(readme, study.report()) == readme
    known = study.everything()
    strangers = [r for r in runs.read_lines(ROOT / study.results) if not any(job.is_recorded_by(r) for job in known)]
    assert strangers == []


def test_a_table_goes_where_its_mark_is():
    text = 'a\n<!-- one -->\nold\n<!-- end of table -->\nb\n<!-- two -->\n<!-- end of table -->\nc'
    assert between(text, '<!-- two -->', 'new') == text.replace('two -->\n', 'two -->\nnew\n')
    assert between(text, '<!-- one -->', 'new') == text.replace('old', 'new')
    with pytest.raises(ValueError, match='three'):
        between(text, '<!-- three -->', 'new')
    assert [runs.spread([]), runs.spread([1.0], '+'), runs.spread([1.0, 2.0], digits=1)] == ['', '+1.00', '1.5 ± 0.7']


def test_the_outcome_of_a_training_with_diagnostics(tmp_path):
    """The hook's lines have no loss either, and are not validations."""
    folder = tmp_path / '20260101' / 'vis_data'
    folder.mkdir(parents=True)
    rank = 'srd_effective_rank/neck.0'
    logged = [{'loss': 1.0, 'srd_alignment/neck': 0.5, 'step': 10}, {rank: 7.12341, 'step': 10},
              {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_50': 0.2, 'time': 1.0, 'step': 10},
              {'loss': 0.5, 'srd_alignment/neck': 0.75, 'step': 20},
              {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.4, 'time': 1.0, 'step': 20}, {rank: 6.0, 'step': 20}]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, logged)))
    (folder / 'projector_spectra.jsonl').write_text(
        '\n'.join(json.dumps(dict(step=s, spectra={'neck.0': [s + 0.12345, 0.1]})) for s in (10, 20)))
    assert runs.outcome(tmp_path) == dict(
        metrics={'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.4}, curve=[[10, 0.1], [20, 0.3]],
        alignment=dict(neck=0.75), diagnostics={rank: [[10, 7.1234], [20, 6.0]]}, spectra={'neck.0': [20.1, 0.1]})
    (folder / 'scalars.json').write_text(json.dumps(logged[0]))
    for folder in (tmp_path, tmp_path / 'nothing'):
        with pytest.raises(ValueError, match='no result'):
            runs.outcome(folder)


def smoke(script, *arguments):
    """Run a study in short, twice; what the second run prints."""
    for _ in range(2):
        done = python(ROOT / 'tools/studies' / script, '--smoke', '--seeds', '3', *arguments)
    return done.stdout


def test_smoke_run_of_classification_records_and_resumes(tmp_path):
    prepare_data.digits(tmp_path / 'digits')
    printed = smoke('classification.py', '--parts', 'digits', '--rows', 'SRD + KL', '--results',
                    str(tmp_path / 'results.jsonl'), '--work-dir', str(tmp_path / 'work'), '--cfg-options',
                    f'train_dataloader.dataset.data_root={tmp_path}/digits/train',
                    f'val_dataloader.dataset.data_root={tmp_path}/digits/val')
    assert printed.count('1 trainings recorded') == 2
    records = runs.read_lines(tmp_path / 'results.jsonl')
    assert [(r['row'], r['seed']) for r in records] == [('teacher', 0), ('SRD + KL', 3)]
    assert all(0 <= r['metrics']['accuracy/top1'] <= 100 for r in records)
    assert set(records[1]['alignment']) == {'feature'}


def test_smoke_run_of_detection_records_and_resumes(tmp_path):
    printed = smoke('detection.py', '--parts', 'reduced/fcos_fcos', '--rows', 'SRD', '--work-dir', str(tmp_path))
    assert printed.count('1 trainings recorded') == 2
    records = runs.read_lines(tmp_path / 'results.jsonl')
    assert [(r['row'], r['seed'], len(r['curve'])) for r in records] == [('teacher', 0, 1), ('SRD', 3, 1)]
    assert set(records[1]['spectra']) == {'neck.0', 'neck.1', 'neck.2'}
    assert 'srd_effective_rank/neck.0' in records[1]['diagnostics']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--cfg-options', 'a=1'], '--cfg-options makes another study'), (['--jobs', '0'], '--jobs 0: must be at least 1'),
    (['--rows', 'SDR'], "invalid choice: 'SDR'")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        detection.STUDY.main('a study', arguments)
    assert message in capsys.readouterr().err


def test_what_another_command_has_trained_meanwhile_is_not_trained_again(tmp_path, monkeypatch):
    job = runs.Job('d', 'r', 0, 'configs/no_such_config.py')
    results = tmp_path / 'results.jsonl'

    def locked(path):  # the other command finishes while this one waits
        if path.name == 'lock':
            results.write_text(json.dumps(record(job, {'a': 1})) + '\n')
        return contextlib.nullcontext()

    monkeypatch.setattr(runs, 'locked', locked)
    runs.run([job], results, tmp_path, 1)
    assert len(runs.read_lines(results)) == 1


def test_a_failed_training_is_reported(tmp_path):
    jobs = [runs.Job('d', 'r', 0, 'configs/no_such_config.py')]
    with pytest.raises(SystemExit, match='d, r, seed 0: failed, see .*train.log'):
        runs.run(jobs, tmp_path / 'results.jsonl', tmp_path, 1)
    assert not (tmp_path / 'results.jsonl').exists()
    assert 'no_such_config' in (tmp_path / 'd/r/seed0/train.log').read_text()


def test_fashion_mnist_is_unpacked_for_the_dataset_class(tmp_path):
    """Files in the format of the real ones: 32-bit big-endian sizes, then bytes."""
    rng = np.random.default_rng(0)
    for name in prepare_data.FASHION_FILES:
        shape = (5, 28, 28) if 'images' in name else (5,)
        data = rng.integers(0, 10, shape, np.uint8)
        header = np.array([2048 + len(shape), *shape], '>u4').tobytes()
        (tmp_path / f'{name}.gz').write_bytes(gzip.compress(header + data.tobytes()))
    assert prepare_data.fashion_mnist(tmp_path / 'out', tmp_path) == 4
    from mmpretrain.datasets import FashionMNIST
    test = FashionMNIST(data_root=str(tmp_path / 'out'), split='test', test_mode=True, download=False)
    assert len(test) == 5
    assert (test[4]['img'] == data_of(tmp_path, 't10k-images-idx3-ubyte')[4]).all()
    with pytest.raises(SystemExit, match='has no train-images-idx3-ubyte.gz. Install the Debian package'):
        prepare_data.fashion_mnist(tmp_path / 'out', tmp_path / 'nothing')


def data_of(folder, name):
    return np.frombuffer(gzip.decompress((folder / f'{name}.gz').read_bytes())[16:], np.uint8).reshape(-1, 28, 28)


@STUDIES
def test_the_metafile_has_the_recorded_means_and_nothing_else(study):
    text = (ROOT / study.readme).with_name('metafile.yml').read_text()
    assert study.with_means(text) == text
    row, metric, scale, task, title = study.shown
    records = list(runs.recorded(study.everything(), ROOT / study.results).values())
    models = yaml.safe_load(text)['Models']
    for model in models:
        found = [r for r in records if (r['config'], r['row']) == (model['Config'], row)]
        assert ('Results' in model) == bool(found)
        if found:
            mean = scale * sum(r['metrics'][metric] for r in found) / len(found)
            assert model['Results'][0]['Metrics'] == {title: pytest.approx(mean, abs=0.0051)}
            assert model['Metadata']['Seeds'] == len(found)
            assert model['Results'][0]['Task'] == task
    assert any('Results' in model for model in models)


def test_what_the_method_page_takes_from_records():
    curves = [[[10, 1.0], [20, 2.0]], [[10, 3.0], [20, 2.0]]]
    assert plots.mean_curve(curves) == ([10, 20], [2.0, 2.0], [2 ** 0.5, 0.0])
    assert method.alive({'a': [1.0, 0.5, 0.011, 0.009], 'b': [2.0, 0.02, 0.0]}) == [3, 1]
    job = runs.Job('d', 'SRD', 0, 'c.py')
    found = dict(spectra={'neck.0': [1.0, 0.5, 0.0]}, diagnostics={
        'srd_effective_rank/neck.0': [[1, 3.0], [2, 1.9]], 'srd_cross_correlation/neck.0': [[1, 0.5], [2, 0.25]]})
    table = method.diagnostics_table({job: found}, 'd', {'SRD': 'batch', 'none': 'not there'}, 'norm')
    assert table.splitlines()[2:] == ['| batch | 1 | 2.0 of 3 | 1.9 | 0.250 |']


def test_the_method_page_shows_the_recorded_results(tmp_path):
    records = [runs.recorded(s.everything(), ROOT / s.results) for s in (detection.STUDY, classification.STUDY)]
    text = (ROOT / method.PAGE).read_text()
    assert method.page(text, method.tables(*records)) == text
    readme = (ROOT / method.README).read_text()
    assert method.page(readme, method.summary(*records)) == readme
    method.pictures(*records, tmp_path)
    drawn = {path.name for path in tmp_path.glob('*.png')}
    assert drawn == {path.name for path in (ROOT / method.PICTURES).glob('*.png')}
    assert all(f'pictures/{name}' in text for name in drawn)
