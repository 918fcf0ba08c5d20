"""``schedule.interval``: the steps between are the student's own, bit for bit; all else goes on."""
from __future__ import annotations

import copy
import json

import pytest
import torch
from helpers.weights import same

import mmsrd
from mmsrd.distillers import read_block
from mmsrd.errors import ConfigError

BALANCED = dict(neck=dict(student='neck', teacher='neck', balance=1.0))


@pytest.fixture
def every_second(distill):
    return dict(distill, losses=BALANCED, schedule=dict(interval=2))


def backward(model, data):
    losses = model(**data)
    sum(v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if 'loss' in k).backward()
    return losses


def test_a_step_between_is_the_students_own(student, batch, every_second):
    alone = copy.deepcopy(student)
    distiller = mmsrd.attach(student, every_second)
    assert 'teachers and losses run in one of every 2 optimisation steps' in distiller.describe()
    calls = []
    distiller.teacher.model.register_forward_pre_hook(lambda *args: calls.append(distiller.progress.iteration))
    distiller.teacher.model.backbone.register_forward_pre_hook(
        lambda *args: calls.append(distiller.progress.iteration))
    data = batch(student)
    for iteration in range(4):
        for model in (student, alone):
            model.zero_grad()
        losses, expected = backward(student, data), backward(alone, data)
        gradients = {name: parameter.grad for name, parameter in student.named_parameters()}
        if iteration % 2:
            assert losses.keys() == expected.keys()
            assert all(torch.equal(gradients[name], p.grad) for name, p in alone.named_parameters()
                       if p.grad is not None)
        else:
            assert 'loss_srd_neck' in losses
        # DistributedDataParallel waits for the gradient of each parameter.
        assert all(gradients[f'distiller.{name}'] is not None for name, _ in distiller.named_parameters())
    assert sorted(set(calls)) == [0, 2]


@pytest.mark.parametrize(('options', 'schedule', 'expected'), [
    ({}, dict(interval=2), [0, 2, 4, 6]), ({}, dict(interval=3), [0, 3, 6]),
    ({'optim_wrapper.accumulative_counts': 2}, dict(interval=2), [0, 1, 4, 5]),
    ({}, dict(interval=2, start=3, end=7), [3, 5]), ({}, dict(interval=2, start=1, by_epoch=True), [4, 6])])
def test_iterations_that_are_distilled(make_runner, distill, options, schedule, expected):
    """Four iterations an epoch, two epochs."""
    runner = make_runner('run', dict(distill, schedule=schedule), **options)
    seen = []
    runner.model.distiller.losses['neck'].register_forward_pre_hook(lambda *args: seen.append(runner.iter))
    runner.train()
    assert seen == expected


def test_warmup_counts_iterations(make_runner, distill):
    runner = make_runner('run', dict(distill, schedule=dict(interval=2, warmup=5)))
    factors = []
    distiller = runner.model.distiller
    distiller.losses['neck'].register_forward_pre_hook(lambda *args: factors.append(distiller.progress.factor))
    runner.train()
    assert factors == pytest.approx([0.2, 0.6, 1, 1])


def test_the_log_has_the_loss_of_distilled_steps(make_runner, every_second, tmp_path):
    make_runner('run', every_second, **{'default_hooks.logger': dict(type='LoggerHook', interval=1),
                                        'log_processor': dict(window_size=1)}).train()
    written = next((tmp_path / 'run').glob('*/vis_data/scalars.json')).read_text()
    lines = [line for line in map(json.loads, written.splitlines()) if 'loss' in line]
    assert len(lines) == 8
    assert all(line['loss_srd_neck'] != 0 for line in lines)  # between them, the last one


@pytest.mark.parametrize('ema', [False, True])
def test_resumed(make_runner, every_second, tmp_path, ema):
    """From a checkpoint in the middle, after a step that was distilled and after one that was not."""
    if ema:
        every_second['teacher'] = dict(ema=dict(momentum=0.1))
    options = {'default_hooks.checkpoint': dict(type='CheckpointHook', interval=1, by_epoch=False)}
    whole = make_runner('whole', every_second, **options)
    whole.train()
    for moment in (3, 6):
        resumed = make_runner(f'from_{moment}', every_second, resume=True,
                              load_from=str(tmp_path / f'whole/iter_{moment}.pth'), **options)
        resumed.train()
        for part in (lambda runner: runner.model.state_dict(), lambda runner: runner.model.distiller.state_dict()):
            equal = same(part(whole), part(resumed))
            assert equal, moment


def test_losses_of_the_student_in_lists(student, batch, every_second):
    """Lists may be empty, and entries may be something else."""
    distiller = mmsrd.attach(student, every_second)
    value = torch.ones((), requires_grad=True)
    added = distiller._with_projectors(dict(loss_a=[], loss_b=[value, value], note='loss'))
    assert list(added) == ['loss_b']
    assert [float(x) for x in added['loss_b']] == [1, 1]
    assert distiller._with_projectors({}) == {}


@pytest.mark.parametrize('value', [0, -1, 1.5])
def test_mistakes(distill, value):
    with pytest.raises(ConfigError, match=f'distill.schedule.interval = {value}: must be a whole number'):
        read_block(dict(distill, schedule=dict(interval=value)))
