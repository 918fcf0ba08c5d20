"""Weights over training: window, warm-up and decay."""
from __future__ import annotations

import math

import pytest

import mmsrd
from mmsrd.config import Schedule
from mmsrd.config.schedule import parse_schedule
from mmsrd.errors import ConfigError


def test_warmup_from_an_epoch():
    schedule = Schedule(start=2, end=4, warmup=4, by_epoch=True)
    factors = [schedule.factor(i, i // 3, 3) for i in range(15)]
    assert factors == [0] * 6 + [0.25, 0.5, 0.75, 1, 1, 1] + [0] * 3


@pytest.mark.parametrize(('options', 'first', 'last'), [
    (dict(), 0, 12), (dict(start=2), 2, 12), (dict(end=8), 0, 8), (dict(start=1, end=3, by_epoch=True), 3, 9)])
def test_decay_until_the_end(options, first, last):
    """Of the window, or of training."""
    for decay, value in (('linear', lambda x: 1 - x), ('cosine', lambda x: (1 + math.cos(math.pi * x)) / 2)):
        schedule = Schedule(**options, decay=decay)
        expected = [value((i - first) / (last - first)) if first <= i < last else 0 for i in range(12)]
        assert [schedule.factor(i, i // 3, 3, 12) for i in range(12)] == pytest.approx(expected)


def test_a_warmup_and_a_decay_are_multiplied():
    assert Schedule(warmup=4, decay='linear').factor(1, 0, None, 10) == pytest.approx(0.5 * 0.9)


def test_a_run_tells_how_long_it_is(make_runner, distill):
    """Four iterations an epoch, two epochs."""
    runner = make_runner('run', dict(distill, schedule=dict(decay='linear')))
    factors = []
    distiller = runner.model.distiller
    distiller.losses['neck'].register_forward_pre_hook(lambda *args: factors.append(distiller.progress.factor))
    runner.train()
    assert factors == pytest.approx([1 - i / 8 for i in range(8)])


def test_a_loop_without_a_runner_needs_an_end(student, distill):
    with pytest.raises(ConfigError, match="distill.schedule.decay = 'cosine': needs an `end`"):
        mmsrd.attach(student, dict(distill, schedule=dict(decay='cosine')))


def test_wrong_decay():
    with pytest.raises(ConfigError, match="distill.schedule.decay = 'step': must be one of None, 'cosine', 'linear'"):
        parse_schedule('distill.schedule', dict(decay='step'))
