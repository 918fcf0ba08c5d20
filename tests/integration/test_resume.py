"""A resumed run ends as one left alone, bit for bit; what does not fit the run that is resumed is said or refused."""
from __future__ import annotations

import copy
import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from helpers.weights import load, same
from mmengine.config import Config
from mmengine.registry import RUNNERS

import mmsrd
from mmsrd.distillers import differences, fingerprint_of
from mmsrd.errors import CheckpointError

EMA_HOOK = dict(type='EMAHook', momentum=0.1)
BY_ITERATIONS = {
    'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=7, val_interval=100),
    'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True),
    'default_hooks.checkpoint': dict(type='CheckpointHook', interval=3, by_epoch=False),
    'log_processor.by_epoch': False}
RUNS = {
    'a warm-up': (dict(schedule=dict(warmup=6)), {}, 'epoch'),
    'EMA hook': ({}, dict(custom_hooks=[EMA_HOOK]), 'epoch'),
    'iterations': (dict(schedule=dict(start=1, warmup=4)), BY_ITERATIONS, 'iter'),
    'a balance': (dict(losses=dict(neck=dict(student='neck', teacher='neck', balance=1.0))), {}, 'epoch'),
    'an average teaches': (dict(teacher=dict(ema=dict(momentum=0.1))), {}, 'epoch'),
    'after the end': (dict(schedule=dict(end=2)), {}, 'epoch'),
    'an average after the end': (dict(schedule=dict(end=2), teacher=dict(ema=dict())), {}, 'epoch'),
}


def state_of(model, checkpoint):
    """All that a run ends with: the student, the projectors, averages."""
    teacher = model.distiller.teacher
    averages = {} if teacher.released else teacher.model.state_dict()
    return {**model.state_dict(), **{f'distiller.{k}': v for k, v in model.distiller.state_dict().items()},
            **{f'teacher.{k}': v for k, v in averages.items()},
            **{f'ema.{k}': v for k, v in checkpoint.get('ema_state_dict', {}).items()}}


@pytest.mark.parametrize(('block', 'options', 'unit'), RUNS.values(), ids=RUNS)
def test_detector(make_runner, distill, tmp_path, block, options, unit):
    distill.update(copy.deepcopy(block))
    whole = make_runner('whole', distill, **options)
    whole.train()
    middle, end = (f'{unit}_{count}.pth' for count in ((3, 7) if unit == 'iter' else (1, 2)))
    if 'end' in distill.get('schedule', {}):
        assert 'averages' not in load(tmp_path / 'whole' / middle)['distiller']
    resumed = make_runner('resumed', distill, resume=True, load_from=str(tmp_path / 'whole' / middle), **options)
    resumed.train()
    assert resumed.model.distiller.progress.iteration == whole.iter
    assert same(state_of(whole.model, load(tmp_path / 'whole' / end)),
                state_of(resumed.model, load(tmp_path / 'resumed' / end)))


def test_classifier(make_classifier_runner, tmp_path):
    """With random crops."""
    whole = make_classifier_runner('whole', 1).train()
    resumed = make_classifier_runner('resumed', 1, resume=True,
                                     load_from=str(tmp_path / 'whole' / 'epoch_1.pth')).train()
    assert same(state_of(whole, {}), state_of(resumed, {}))


VERSION_0_1 = Path(__file__).resolve().parents[1] / 'data' / 'v0.1.0'
RENAMED = dict(projectors=('losses', 'projectors'), criteria=('losses', 'criterion'))


def renamed(key):
    """Where a parameter of version 0.1.0's distiller is now."""
    part, loss, rest = key.split('.', 2)
    return f'{RENAMED[part][0]}.{loss}.{RENAMED[part][1]}.{rest}'


@pytest.mark.skipif(importlib.util.find_spec('numpy._core') is None,
                    reason='the files hold the path of a module that NumPy has since 1.26')
def test_a_run_of_version_0_1_0(digits, tmp_path, monkeypatch):
    """Files that commit 0e59ad8 has saved of ``tests/data/v0.1.0/run.py``: after one epoch, and at the end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'digits').symlink_to(digits)
    Config.fromfile(str(VERSION_0_1 / 'teacher.py')).dump('teacher.py')
    shutil.copy(VERSION_0_1 / 'teacher.pth', 'teacher.pth')
    config = Config.fromfile(str(VERSION_0_1 / 'run.py'))
    config.update(work_dir='work', resume=True, load_from=str(VERSION_0_1 / 'epoch_1.pth'))
    config.experiment_name = config.visualizer.name = tmp_path.name
    runner = RUNNERS.build(config)
    runner.train()
    distiller = runner.model.distiller
    assert distiller.progress.iteration == 8
    end = load(VERSION_0_1 / 'end.pth')
    pairs = [(runner.model.state_dict(), end['state_dict']),
             (distiller.state_dict(), {renamed(k): v for k, v in end['distiller']['state_dict'].items()}),
             (distiller.teachers['average'].state(), end['distiller']['averages']['average'])]
    exact = end['torch'] == torch.__version__ and end['capability'] == torch.backends.cpu.get_cpu_capability()
    for now, then in pairs:
        assert set(now) == set(then)
        for key, value in now.items():
            # Another version of PyTorch, or another CPU, adds up in another order; four steps amplify it little.
            limits = dict(rtol=0, atol=0) if exact else dict(rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(value, then[key], msg=key, **limits)
    assert load('work/epoch_2.pth')['distiller']['record'] == end['distiller']['record']


@pytest.fixture
def run_with(make_runner, distill):
    """Train one epoch, then resume to the second with a changed block; what MMEngine logged meanwhile."""

    def run(change=None, **overrides):
        make_runner('run', distill, **{'train_cfg.max_epochs': 1}).train()
        block = copy.deepcopy(distill)
        if change:
            change(block)
        runner = make_runner('run', block, resume=True, **overrides)
        warnings = []
        runner.logger.handlers[0].addFilter(lambda record: warnings.append(record.getMessage()) or True)
        runner.train()
        return ' '.join(warnings)

    return run


@pytest.mark.parametrize(('change', 'message'), [
    (lambda b: b['losses']['neck'].update(alpha=2.0), r'distill.losses.neck.alpha was 4.0 and is now 2.0'),
    (lambda b: b['losses']['neck'].update(weight=1.0), r'distill.losses.neck.weight was 2.0 and is now 1.0'),
    (lambda b: b.update(schedule=dict(end=6)), r'distill.schedule.end was None and is now 6'),
])
def test_other_settings_are_a_warning(run_with, change, message):
    assert f'Resumed with settings that differ from the checkpoint: {message}' in run_with(change)


def test_a_moved_teacher_is_the_same(run_with, tmp_path):
    def move(block):
        block['teacher']['checkpoint'] = str(shutil.copy(block['teacher']['checkpoint'], tmp_path / 'moved.pth'))
    assert 'settings that differ' not in run_with(move)


def _retrain(block, tmp_path):
    state = torch.load(block['teacher']['checkpoint'])
    state['state_dict']['backbone.conv1.weight'][0, 0, 0, 0] += 1e-3
    block['teacher']['checkpoint'] = str(tmp_path / 'other.pth')
    torch.save(state, block['teacher']['checkpoint'])


@pytest.mark.parametrize(('change', 'message'), [
    (_retrain, r'distill.teacher.weights have changed \(checksum was \d+, is now \d+\): the projectors .* use'),
    (lambda b, _: b['losses']['neck'].update(pool=True), 'distill.losses.neck.pool was False and is now True: the'),
    (lambda b, _: b['losses']['neck'].update(levels=[0, 1]), r'levels was \[\[0, 0\], \[1, 1\], \[2, 2\]\] and is now '
     r'\[\[0, 0\], \[1, 1\]\]: the projectors in the checkpoint were trained for something else'),
])
def test_another_meaning_is_an_error(make_runner, distill, tmp_path, change, message):
    make_runner('run', distill, **{'train_cfg.max_epochs': 1}).train()
    change(distill, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        make_runner('run', distill, resume=True).train()


def test_a_checkpoint_that_says_nothing_of_its_run(make_runner, distill, tmp_path):
    """The first version wrote no record; shapes tell then."""
    make_runner('run', distill, **{'train_cfg.max_epochs': 1}).train()
    path = tmp_path / 'run' / 'epoch_1.pth'
    older = load(path)
    del older['distiller']['record']
    torch.save(older, path)
    distill['losses']['neck']['levels'] = [0, 1]
    with pytest.raises(CheckpointError, match=r'do not fit the `distill` block.*losses\.neck\.projectors\.2'):
        make_runner('run', distill, resume=True).train()


def test_a_run_without_distillation(make_runner, distill, tmp_path):
    make_runner('alone', **{'train_cfg.max_epochs': 1}).train()
    with pytest.raises(CheckpointError, match='has no projectors.*use load_from'):
        make_runner('run', distill, resume=True, load_from=str(tmp_path / 'alone' / 'epoch_1.pth')).train()


def test_a_run_without_the_average(make_runner, distill, tmp_path):
    block = {**distill, 'teacher': dict(ema=dict(momentum=0.1))}
    make_runner('run', block, **{'train_cfg.max_epochs': 1}).train()
    path = tmp_path / 'run' / 'epoch_1.pth'
    checkpoint = load(path)
    del checkpoint['distiller']['averages']
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match='resume: the checkpoint has no average of the student for'):
        make_runner('run', block, resume=True).train()


def test_another_number_of_processes_is_notable(student, distill):
    distiller = mmsrd.attach(student, distill)
    fatal, notable = differences(fingerprint_of(distiller, 8), fingerprint_of(distiller, 4))
    assert fatal == []
    assert notable == ['number of processes was 8 and is now 4']


@pytest.mark.parametrize('paramwise', [False, True])
@pytest.mark.parametrize('runner_type', ['mmsrd.DistillRunner', 'mmsrd.DistillFlexibleRunner'])
def test_losses_that_have_changed_places(make_runner, distill, tmp_path, paramwise, runner_type):
    """Their projectors have one shape: the state of one would fit the other."""
    neck = dict(type='SRDLoss', student='neck', teacher='neck')
    losses = dict(a=dict(neck, weight=2.0), z=dict(neck, weight=0.0))
    options = {'runner_type': runner_type, 'optim_wrapper.optimizer': dict(
        _delete_=True, type='SGD', lr=0.01, momentum=0.9)}
    if paramwise:
        options['optim_wrapper.paramwise_cfg'] = dict(custom_keys={'losses.z': dict(lr_mult=0.5)})
    make_runner('begun', {**distill, 'losses': losses}, **options, **{'train_cfg.max_epochs': 1}).train()
    begun = str(tmp_path / 'begun' / 'epoch_1.pth')
    runners = []
    for name, order in (('same', 'az'), ('other', 'za')):
        block = {**distill, 'losses': {key: losses[key] for key in order}}
        runners.append(make_runner(name, block, resume=True, load_from=begun, **options))
        runners[-1].train()
    distillers = [runner.model.distiller.losses for runner in runners]
    # The loss of weight 0 trains nothing, unless its projectors have the momentum of the other's.
    assert same(distillers[1]['z'].state_dict(), {name.partition('.z.')[2]: value for name, value in load(
        begun)['distiller']['state_dict'].items() if name.startswith('losses.z.')})
    for a, b in zip(distillers[0]['a'].parameters(), distillers[1]['a'].parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)  # losses are added in another order
