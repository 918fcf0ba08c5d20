"""The studies and their data: what is recorded is what is shown."""
from __future__ import annotations

import contextlib
import copy
import gzip
import json
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
import yaml
from helpers.processes import ROOT, python
from mmengine.config import Config, DictAction

sys.path.insert(0, str(ROOT / 'tools' / 'studies'))
import classification
import coco
import coco_subset
import command_line
import compose_digits
import crop_classifier
import detection
import estimate
import large_classifiers
import launch
import method
import method_tables
import plots
import prepare_data
import real
import runs
from records import between, read_lines, spread
from study import Choice
from tables import frame

from mmsrd.distillers import read_block
from mmsrd.teachers.libraries import build_library_model

STUDIES = pytest.mark.parametrize('study', [classification.STUDY, detection.STUDY, coco.STUDY,
                                            large_classifiers.STUDY, real.STUDY], ids=lambda study: study.name)


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
    assert classification.table(frame(runs.recorded([teacher, *jobs.values()], results))).splitlines()[2:] == [
        '| digits, 100 labels | teacher | 1 | 99.50 |  |  |',
        '| digits, 100 labels | student alone | 2 | 85.00 ± 7.07 |  |  |',
        '| digits, 100 labels | SRD | 2 | 88.00 ± 4.24 | +3.00 ± 2.83 | 0.50 |']


def test_detectors_of_other_kinds_are_compared_with_the_same_student_alone():
    choice = Choice(Path('w'), parts=('reduced/fcos_fcos', 'reduced/faster-rcnn_fcos'), seeds=(0,))
    jobs = detection.students(choice)
    alone, = (job for job in jobs if job.row == 'student alone')
    mixed, = (job for job in jobs if (job.dataset, job.row) == ('reduced/faster-rcnn_fcos', 'SRD'))
    assert detection.teacher_of(mixed, choice)[0].config == 'configs/composed/faster-rcnn_r18w32_128.py'
    records = {alone: record(alone, {'coco/bbox_mAP': 0.4, 'coco/bbox_mAP_50': 0.5, 'coco/segm_mAP': 0.3}),
               mixed: record(mixed, {'coco/bbox_mAP': 0.425, 'coco/bbox_mAP_50': 0.625, 'coco/segm_mAP': 0.31},
                             dict(neck=0.75))}
    assert detection.table(frame(records)).splitlines()[2:] == [
        '| reduced | FCOS | student alone | 1 | 40.0 |  | 50.0 | 30.0 |  |  |',
        '| reduced | Faster R-CNN → FCOS | SRD | 1 | 42.5 | +2.5 | 62.5 | 31.0 | +1.0 | 0.75 |']


def test_the_record_of_a_row_shows_its_whole_block():
    rows = 'SRD, balance 1, projector of 2 layers', 'SRD, init_student'
    choice = Choice(Path('w'), parts=('reduced/fcos_fcos',), rows=rows)
    default, job = detection.students(choice)
    assert job.options[:-1] == (
        'distill.losses._delete_=True', 'distill.losses.neck.type=SRDLoss', 'distill.losses.neck.student=neck',
        'distill.losses.neck.teacher=neck', 'distill.losses.neck.alpha=4.0', 'distill.losses.neck.balance=1.0',
        'distill.losses.neck.projector.type=MLPProjector', 'distill.losses.neck.projector.layers=2')
    assert default.options[0] == 'distill.teacher.init_student=True'
    assert list(Config.fromfile(str(ROOT / job.config)).distill) == ['teacher']  # the rest is the preset's


@pytest.mark.parametrize(('end', 'count', 'option'), [(', SGD', 10, 'optim_wrapper.optimizer.type=SGD'),
                                                      (', 4 × as long', 9, 'train_cfg.max_iters=4800')])
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
    assert len(jobs) == len(set(jobs)) > 30
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
    strangers = [r for r in read_lines(ROOT / study.results) if not any(job.is_recorded_by(r) for job in known)]
    assert strangers == []


def test_a_table_goes_where_its_mark_is():
    text = 'a\n<!-- one -->\nold\n<!-- end of table -->\nb\n<!-- two -->\n<!-- end of table -->\nc'
    assert between(text, '<!-- two -->', 'new') == text.replace('two -->\n', 'two -->\nnew\n')
    assert between(text, '<!-- one -->', 'new') == text.replace('old', 'new')
    with pytest.raises(ValueError, match='three'):
        between(text, '<!-- three -->', 'new')
    assert [spread([]), spread([1.0], '+'), spread([1.0, 2.0], digits=1)] == ['', '+1.00', '1.5 ± 0.7']


def test_the_outcome_of_a_training_with_diagnostics(tmp_path):
    """The hook's lines have no loss either, and are not validations."""
    folder = tmp_path / '20260101' / 'vis_data'
    folder.mkdir(parents=True)
    rank = 'srd_effective_rank/neck.0'
    logged = [{'loss': 1.0, 'srd_alignment_neck': 0.5, 'step': 10}, {rank: 7.12341, 'step': 10},
              {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_50': 0.2, 'time': 1.0, 'step': 10},
              {'loss': 0.5, 'srd_alignment_neck': 0.75, 'step': 20},
              {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.4, 'time': 1.0, 'step': 20}, {rank: 6.0, 'step': 20}]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, logged)))
    (folder / 'projector_spectra.jsonl').write_text(
        '\n'.join(json.dumps(dict(step=s, spectra={'neck.0': [s + 0.12345, 0.1]})) for s in (10, 20)))
    assert runs.outcome(tmp_path) == dict(
        metrics={'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.4}, curve=[[10, 0.1], [20, 0.3]],
        alignment=dict(neck=0.75), diagnostics={rank: [[10, 7.123], [20, 6.0]]}, spectra={'neck.0': [20.1, 0.1]})
    (folder / 'scalars.json').write_text(json.dumps(logged[0]))
    for folder in (tmp_path, tmp_path / 'nothing'):
        with pytest.raises(ValueError, match='no result'):
            runs.outcome(folder)


def test_the_outcome_of_a_training_that_was_resumed(tmp_path):
    """What was done once more after the last checkpoint counts as it was done then."""
    parts = dict(a=[{'loss': 4.0, 'step': 1}, {'accuracy/top1': 10.0, 'step': 1}, {'loss': 3.0, 'step': 2}],
                 b=[{'loss': 2.0, 'step': 2, 'srd_alignment_x': 0.5}, {'accuracy/top1': 20.0, 'step': 2}])
    for name, lines in parts.items():
        (tmp_path / name / 'vis_data').mkdir(parents=True)
        (tmp_path / name / 'vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    whole, newest = (runs.outcome(tmp_path, resumed) for resumed in (True, False))
    assert whole['curve'] == [[1, 10.0], [2, 20.0]]
    assert newest['curve'] == [[2, 20.0]]
    assert whole['metrics'] == newest['metrics'] == {'accuracy/top1': 20.0}
    assert whole['alignment'] == dict(x=0.5)


def stock(tmp_path, name):
    """A config of the zoo, inherited as those of the study are."""
    (tmp_path / 'stock.py').write_text(f'_base_ = {name!r}')
    return Config.fromfile(str(tmp_path / 'stock.py'))


def test_coco_in_another_schedule(tmp_path):
    """The options that make 2x of 1x are those of MMDetection's own file, and of 1x those of its 1x file."""
    other = 'retinanet-r101_retinanet-r50_1x'
    choice = Choice(Path('w'), parts=(other, 'retinanet-r101_retinanet-r50_2x'), rows=('SRD',))
    changed, plain = coco.students(choice)
    config, expected = estimate.configured(changed), stock(tmp_path, 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    assert config.train_cfg == expected.train_cfg
    assert config.param_scheduler == expected.param_scheduler
    assert estimate.configured(plain).train_cfg.max_epochs == 24
    assert (coco.STUDY.as_configured(changed), coco.STUDY.as_configured(plain)) == (False, True)


def test_the_student_alone_is_the_stock_config(tmp_path):
    """But for what all rows of the study share."""
    job, = coco.students(Choice(Path('w'), parts=('retinanet-r101_retinanet-r50_2x',), rows=('student alone',)))
    config, expected = estimate.configured(job), stock(tmp_path, 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py')
    assert not config.distill
    assert config.runner_type == 'Runner'
    assert (config.model, config.param_scheduler) == (expected.model, expected.param_scheduler)


def test_estimate(monkeypatch):
    """ResNet-8 of digits: the FLOPs of its convolutions by hand, and hours in proportion to images and epochs."""
    jobs = classification.students(Choice(Path('w'), parts=('digits',), rows=('student alone',), seeds=(0, 1)))
    config = estimate.configured(jobs[0])
    # 3×3 convolutions at 8×8: 3→4, 4→4 twice; at 4×4: 4→8, 8→8, 1×1 4→8; at 2×2: 8→16, 16→16, 1×1 8→16; 16→10.
    convolutions = 64 * 9 * (12 + 16 + 16) + 16 * (9 * (32 + 64) + 32) + 4 * (9 * (128 + 256) + 128)
    work = estimate.work_of(config, (8, 8))
    assert (work.student, work.teacher) == (2 * (convolutions + 160), 0)
    monkeypatch.setattr(estimate, 'FLOPS', 3 * work.student)  # an image a second
    text = estimate.estimate(jobs, 360, (8, 8))
    assert f'student alone: 2 × {config.train_cfg.max_epochs / 10:.1f} GPU hours' in text


@pytest.mark.parametrize(('launcher', 'start', 'end'), [
    (launch.Launcher(), [sys.executable, 'tools/train.py', 'c.py'], {}),
    (launch.Launcher(4), ['bash', 'tools/dist_train.sh', 'c.py', '4'], {}),
    (launch.Launcher(16, 'gpu'), ['bash', 'tools/slurm_train.sh', 'gpu', 'pair-student_alone-seed0', 'c.py'],
     dict(GPUS='16', GPUS_PER_NODE='8', REQUEUE='0'))])
def test_how_trainings_are_started(launcher, start, end):
    command, environment = launcher.command('c.py', Path('w/pair/student alone/seed0'))
    assert command[:len(start)] == start
    assert end.items() <= environment.items()
    assert command[-1] == 'w/pair/student alone/seed0'


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(launch, 'run', lambda command, **options: commands.append(command))
    resuming = launch.Launcher(resumes=True)
    for launcher in (launch.ONE_PROCESS, resuming):
        launcher.train('c.py', tmp_path, ['a=1'], {})
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    for launcher in (resuming, launch.ONE_PROCESS):
        launcher.train('c.py', tmp_path, ['a=1'], {})
    with pytest.raises(ValueError, match='has a checkpoint of a training with other options; move the folder away'):
        resuming.train('c.py', tmp_path, ['a=2'], {})
    assert [command[-3:] for command in commands] == [
        [str(tmp_path), '--cfg-options', 'a=1'], [str(tmp_path), '--cfg-options', 'a=1'],
        ['--resume', '--cfg-options', 'a=1'], [str(tmp_path), '--cfg-options', 'a=1']]


def test_processor_seconds_are_those_of_one_training():
    """With its processes, and whatever others do meanwhile."""
    burn = 'import time\nwhile time.process_time() < {}: pass'
    with subprocess.Popen([sys.executable, '-c', burn.format(1)]):
        own = launch.run([sys.executable, '-c', f'import subprocess, sys; subprocess.run([sys.executable, "-c", '
                          f'{burn.format(0.5)!r}])'])
    assert 0.5 <= own < 1.4
    with pytest.raises(subprocess.CalledProcessError):
        launch.run(['false'])


def test_each_training_has_gpus_of_its_own(tmp_path, monkeypatch):
    seen = []
    at_once = threading.Barrier(2, timeout=60)

    def train(self, config, folder, options, environment, held):
        seen.append(environment['CUDA_VISIBLE_DEVICES'])
        at_once.wait()
        (folder / 'train.log').write_text('    GPU 0,1: NVIDIA H100\n')
        return False, 7.0

    monkeypatch.setattr(launch.Launcher, 'train', train)
    monkeypatch.setattr(runs, 'outcome', lambda *args: dict(metrics={}))
    jobs = [runs.Job('d', 'r', seed, 'c.py') for seed in range(6)]
    runs.run(jobs, tmp_path / 'results.jsonl', tmp_path, 2, list('01234'), launcher=launch.Launcher(2))
    assert sorted(seen) == ['0,1'] * 3 + ['2,3'] * 3
    assert {(r['device'], r['processes'], r['processor_seconds']) for r in read_lines(tmp_path / 'results.jsonl')} == {
        ('NVIDIA H100', 2, 7.0)}


def test_the_gpus_that_are_visible(monkeypatch):
    monkeypatch.setattr(command_line.torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5')
    assert command_line.visible_gpus() == ['4', '5']
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert command_line.visible_gpus() == ['0', '1']
    monkeypatch.setattr(command_line.torch.cuda, 'device_count', lambda: 0)
    assert command_line.visible_gpus() == []


def test_dry_run(capsys):
    """Trainings that would run, the teacher's first; nothing is prepared."""
    large_classifiers.STUDY.main('A study.', ['--dry-run', '--parts', 'cifar100/resnet56_resnet20', '--rows',
                                              'student alone', 'SRD', '--seeds', '0'])
    assert capsys.readouterr().out.splitlines() == [
        'CIFAR-100: not estimated', 'cifar100/resnet56, teacher, seed 0',
        'cifar100/resnet56_resnet20, student alone, seed 0', 'cifar100/resnet56_resnet20, SRD, seed 0']


def smoke(script, *arguments):
    """Run a study in short, twice; what the second run prints."""
    for _ in range(2):
        done = python(ROOT / 'tools/studies' / script, '--smoke', '--seeds', '3', *arguments)
    return done.stdout


@pytest.mark.slow
def test_smoke_run_of_classification_records_and_resumes(tmp_path):
    prepare_data.digits(tmp_path / 'digits')
    printed = smoke('classification.py', '--parts', 'digits', '--rows', 'SRD + KL', '--results',
                    str(tmp_path / 'results.jsonl'), '--work-dir', str(tmp_path / 'work'), '--cfg-options',
                    f'train_dataloader.dataset.data_root={tmp_path}/digits/train',
                    f'val_dataloader.dataset.data_root={tmp_path}/digits/val')
    assert printed.count('1 trainings recorded') == 2
    records = read_lines(tmp_path / 'results.jsonl')
    assert [(r['row'], r['seed']) for r in records] == [('teacher', 0), ('SRD + KL', 3)]
    assert all(0 <= r['metrics']['accuracy/top1'] <= 100 for r in records)
    assert set(records[1]['alignment']) == {'feature'}


@pytest.mark.slow
def test_smoke_run_of_detection_records_and_resumes(tmp_path):
    printed = smoke('detection.py', '--parts', 'reduced/fcos_fcos', '--rows', 'SRD', '--work-dir', str(tmp_path))
    assert printed.count('1 trainings recorded') == 2
    records = read_lines(tmp_path / 'results.jsonl')
    assert [(r['row'], r['seed'], len(r['curve'])) for r in records] == [('teacher', 0, 1), ('SRD', 3, 1)]
    assert set(records[1]['spectra']) == {'neck.0', 'neck.1', 'neck.2'}
    assert 'srd_effective_rank/neck.0' in records[1]['diagnostics']


@pytest.mark.slow
def test_smoke_run_on_a_set_in_the_layout_of_coco(tmp_path):
    compose_digits.compose(tmp_path / 'digits', 8, 4)  # of which a smoke run takes some
    compose_digits.as_coco(tmp_path / 'digits', tmp_path / 'coco')
    data = f'{tmp_path}/coco/'
    printed = smoke(
        'coco.py', '--parts', 'retinanet-r101_retinanet-r50_1x', '--work-dir', str(tmp_path / 'work'), '--cfg-options',
        f'train_dataloader.dataset.data_root={data}', f'val_dataloader.dataset.data_root={data}',
        f'val_evaluator.ann_file={data}annotations/instances_val2017.json', 'model.test_cfg.score_thr=0',
        'train_dataloader.dataset.pipeline.2.scale=(128,128)', 'val_dataloader.dataset.pipeline.1.scale=(128,128)')
    assert '5 trainings recorded' in printed
    records = read_lines(tmp_path / 'work/results.jsonl')
    assert [r['row'] for r in records] == list(coco.ROWS)
    assert all('neck' in r['alignment'] for r in records[1:])


@pytest.mark.slow
def test_smoke_run_on_a_set_in_the_layout_of_imagenet(tmp_path):
    for split in ('train', 'val'):
        for i in range(1000):
            (tmp_path / split / f'n{i:08d}').mkdir(parents=True)
            cv2.imwrite(str(tmp_path / split / f'n{i:08d}/0.png'), np.full((16, 16, 3), i % 256, np.uint8))
    printed = smoke('large_classifiers.py', '--work-dir', str(tmp_path / 'work'), '--cfg-options',
                    f'train_dataloader.dataset.data_root={tmp_path}', f'val_dataloader.dataset.data_root={tmp_path}')
    assert '5 trainings recorded' in printed
    assert [r['row'] for r in read_lines(tmp_path / 'work/results.jsonl')] == list(large_classifiers.ROWS)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--gpus', '0', '--processes', '2'], '--processes 2: must be at least 1, and there are 1 GPUs'),
    (['--processes', '2'], '--processes 2: this study does not scale the learning rate with the batch'),
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
            weights.touch()
            results.write_text(json.dumps(record(job, {'a': 1})) + '\n')
        return contextlib.nullcontext()

    weights = tmp_path / 'teacher.pth'
    monkeypatch.setattr(runs, 'locked', locked)
    runs.run([job], results, tmp_path, 1, needed=lambda job: not weights.is_file())
    assert len(read_lines(results)) == 1


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
    jobs = study.everything()
    records = runs.recorded(jobs, ROOT / study.results)
    configs = {job.config for job in jobs}  # one metafile may have models of two studies
    models = [model for model in yaml.safe_load(text)['Models'] if model['Config'] in configs]
    for model in models:
        found = [r for job, r in records.items() if (r['config'], r['row']) == (model['Config'], row)
                 and study.as_configured(job)]
        assert ('Results' in model) == bool(found)
        if found:
            mean = scale * sum(r['metrics'][metric] for r in found) / len(found)
            assert model['Results'][0]['Metrics'] == {title: pytest.approx(mean, abs=0.0051)}
            assert model['Metadata']['Seeds'] == len(found)
            assert model['Results'][0]['Task'] == task
    assert models
    shown = any(job.row == row and study.as_configured(job) for job in records)
    assert any('Results' in model for model in models) == shown


def test_what_the_method_page_takes_from_records():
    curves = [[[10, 1.0], [20, 2.0]], [[10, 3.0], [20, 2.0]]]
    mean = plots.mean_curve(curves)
    assert (list(mean.index), list(mean['mean']), list(mean['std'])) == ([10, 20], [2.0, 2.0], [2 ** 0.5, 0.0])
    assert [method_tables.alive(values) for values in ([1.0, 0.5, 0.011, 0.009], [2.0, 0.02, 0.0])] == [3, 1]
    job = runs.Job('d', 'SRD', 0, 'c.py')
    found = record(job, {}) | dict(spectra={'neck.0': [1.0, 0.5, 0.0]}, diagnostics={
        'srd_effective_rank/neck.0': [[1, 3.0], [2, 1.9]], 'srd_cross_correlation/neck.0': [[1, 0.5], [2, 0.25]]})
    table = method_tables.diagnostics_table(frame({job: found}), 'd', {'SRD': 'batch', 'none': 'not there'}, 'norm')
    assert table.splitlines()[2:] == ['| batch | 1 | 2.0 of 3 | 1.9 | 0.250 |']


def test_norms_of_a_level_without_objects_are_drawn(monkeypatch):
    """Means over the seeds; what was sent is the gradient times the factor, or times the constant weight."""
    def look(scale, **more):
        values = {'task_norm/neck.0': 4.0, 'task_norm/neck.1': 1e-9, 'distill_norm/neck.0': 2.0,
                  'distill_norm/neck.1': 0.5, **more}
        return dict(diagnostics={f'srd_{name}': [[1, scale * value]] for name, value in values.items()})

    jobs = [runs.Job('d', row, seed, 'c.py') for row, seed in (('SRD', 0), ('SRD', 1), ('SRD', 2), ('weight', 0))]
    factor = {'balance/neck.0': 2.0, 'balance/neck.1': 2e-9}
    rounded = look(1, **factor)
    rounded['diagnostics']['srd_task_norm/neck.1'] = [[1, 0.0]]  # as records had it that kept four decimals
    looks = look(1, **factor), look(3, **factor), rounded, look(1)
    records = {job: record(job, {}) | found for job, found in zip(jobs, looks)}
    drawn = {}
    for row, weight in (('SRD', None), ('weight', 0.25)):
        figure, axis = plots.plt.subplots()
        plots.gradients(frame(records), 'd', row, 'neck', (8, 16), weight)(axis)
        drawn[row] = {line.get_label(): line.get_ydata().tolist() for line in axis.lines}
        plots.plt.close(figure)
    # Seeds 1 and 3 times as large: of 2 × 2 and 6 × 6 sent the mean is 20, not the product of the means.
    assert drawn['SRD'] == {'stride 8, task': [8.0], 'stride 8, distillation': [20.0],
                            'stride 16, task': [2e-9], 'stride 16, distillation': [pytest.approx(5e-9)]}
    assert drawn['weight']['stride 8, distillation'] == [0.5]


def test_the_method_page_shows_the_recorded_results(tmp_path):
    records = [frame(study.recorded()) for study in (detection.STUDY, classification.STUDY)]
    photos = frame(real.STUDY.recorded())
    tables = method.tables(*records, photos)
    texts = {name: (ROOT / method.NOTES / name).read_text() for name in tables}
    for name, contents in tables.items():
        assert method.page(texts[name], contents) == texts[name]
    readme = (ROOT / method.README).read_text()
    assert method.page(readme, method.photographs(photos)) == readme
    method.pictures(*records, tmp_path)
    drawn = {path.name for path in tmp_path.glob('*.png')}
    assert drawn == {path.name for path in (ROOT / method.PICTURES).glob('*.png')}
    assert all(any(f'pictures/{name}' in text for text in (*texts.values(), readme)) for name in drawn)


def test_a_classifier_of_objects(coco, tmp_path, monkeypatch):
    """One step of training changes it, and it can teach."""
    monkeypatch.setattr(crop_classifier, 'BATCH', 8)
    images, labels = crop_classifier.windows(coco, 'train', 5)
    assert images.shape == (5, 3, 64, 64)
    boxes = json.loads((coco / 'annotations/train.json').read_text())['annotations']
    assert labels.tolist() == [box['category_id'] for box in boxes[:5]]
    # The object is in the middle of its window, at its own scale.
    box, image = boxes[0]['bbox'], cv2.imread(str(coco / f"train/{boxes[0]['image_id']:06d}.png"))
    x, y = round(box[0] + box[2] / 2), round(box[1] + box[3] / 2)
    assert images[0][:, 32, 32].tolist() == image[y, x, ::-1].tolist()
    accuracy = crop_classifier.train(coco, tmp_path / 'out', 10, 1)
    assert 0 <= accuracy <= 1
    model = build_library_model(f'timm::{tmp_path / "out"}', 'k')
    model.read_weights('auto', 'k')
    assert model.model.fc.out_features == 10
    torch.manual_seed(0)
    assert not torch.equal(model.model.fc.weight, timm.create_model('resnet10t', num_classes=10).fc.weight)


def test_rows_on_photographs_are_blocks_that_are_accepted(monkeypatch):
    """Each training's config and options together; the photographs need not be there."""
    monkeypatch.chdir(ROOT)
    jobs = real.STUDY.everything()
    assert {job.row for job in jobs} == {'teacher', *real.STUDY.rows}
    read = {path: Config.fromfile(path) for path in {job.config for job in jobs}}
    for job in jobs:
        config = copy.deepcopy(read[job.config])
        given = [option.partition('=') for option in job.options]
        config.merge_from_dict({key: DictAction._parse_iterable(value) for key, _, value in given})
        assert ('distill' in config) == (job.row not in (
            'teacher', 'student alone', *real.EQUAL_TIME.values(), real.TENTH, real.TENTH_PRETRAINED))
        if 'distill' in config:
            assert read_block(config.distill).teachers


@pytest.mark.slow
@pytest.mark.parametrize(('part', 'waves'), [('chess/lite2_lite0', 2), ('people/yolox-nano_lite0', 3)])
def test_smoke_run_on_composed_images_in_the_layout_of_photographs(tmp_path, part, waves):
    """Teachers, then students; or teachers, students without labels, and those that go on from them."""
    printed = smoke('real.py', '--parts', part, '--work-dir', str(tmp_path))
    records = read_lines(tmp_path / 'results.jsonl')
    assert {r['row'] for r in records} - {'teacher'} == {'student alone', *real.PAIRS[part]}
    assert printed.count(' 0 to run') == waves


def test_the_subset_of_coco(tmp_path, monkeypatch):
    """Of official COCO: the photographs that are listed, smaller, with their boxes."""
    listed = coco_subset.names()
    assert {split: len(paths) for split, paths in listed.items()} == dict(train=2636, val=575)
    assert not {*listed['train']} & {*listed['val']}
    assert all(path.startswith('val2017/') for path in listed['val'])
    for number, split in enumerate(('train2017', 'val2017')):
        (tmp_path / split).mkdir()
        images = [dict(id=10 * number + i, file_name=f'{i}.jpg', width=640, height=480) for i in range(2)]
        for image in images:
            cv2.imwrite(str(tmp_path / split / image['file_name']), np.full((480, 640, 3), 5 * image['id'], np.uint8))
        objects = [dict(id=100 * number + i, image_id=image['id'], category_id=18, iscrowd=i, bbox=[10, 20, 100, 60],
                        area=3000.) for i, image in enumerate(images)]
        (tmp_path / 'annotations').mkdir(exist_ok=True)
        (tmp_path / f'annotations/instances_{split}.json').write_text(json.dumps(dict(
            images=images, annotations=objects, categories=[dict(id=18, name='dog')])))
    (tmp_path / 'names.txt').write_text('# these\n[train]\ntrain2017/1.jpg\nval2017/0.jpg\n[val]\nval2017/1.jpg\n')
    monkeypatch.setattr(coco_subset, 'NAMES', tmp_path / 'names.txt')
    assert coco_subset.is_coco(tmp_path)
    assert not coco_subset.is_coco(tmp_path / 'val2017')
    coco_subset.make(tmp_path, tmp_path / 'out')
    train, val = (json.loads((tmp_path / f'out/annotations/instances_{split}.json').read_text())
                  for split in ('train', 'val'))
    assert [image['file_name'] for image in train['images']] == ['train2017_1.jpg', 'val2017_0.jpg']
    assert val['images'] == [dict(id=11, file_name='val2017_1.jpg', width=320, height=240)]
    assert val['annotations'] == [dict(id=101, image_id=11, category_id=18, iscrowd=1, bbox=[5, 10, 50, 30], area=750)]
    assert cv2.imread(str(tmp_path / 'out/train/train2017_1.jpg')).shape == (240, 320, 3)
    (tmp_path / 'names.txt').write_text('[val]\nval2017/7.jpg\n')
    with pytest.raises(SystemExit, match='has no val2017/7.jpg'):
        coco_subset.make(tmp_path, tmp_path / 'other')
