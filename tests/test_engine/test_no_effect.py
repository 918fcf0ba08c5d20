"""A distillation loss that does nothing is named in the log, and one that works is not."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmsrd.engine.hooks import no_effect_hook
from mmsrd.engine.hooks.distill_hook import distiller_of
from mmsrd.registry import HOOKS, MODELS

START = "distill.losses.neck (student 'neck', teacher 'neck') seems to have no effect: "


@MODELS.register_module()
class NothingLoss(nn.Module):
    """A loss of a user's own whose formula has lost its inputs."""

    def forward(self, student, teacher):
        return student.sum() * 0 + 3, {}


@HOOKS.register_module()
class FrozenProjectors(Hook):

    def before_train(self, runner):
        distiller_of(runner).requires_grad_(False)


@pytest.fixture
def warnings_of(make_runner, distill, monkeypatch):
    """What is warned of in eight steps, of which the halves are compared."""
    monkeypatch.setattr(no_effect_hook, 'STEPS', 8)
    monkeypatch.setattr(no_effect_hook, 'ENDS', 4)

    def train(loss=None, **overrides):
        if loss is not None:
            distill['losses']['neck'] = loss
        runner = make_runner('run', distill, **{'param_scheduler': None, 'train_cfg.val_interval': 9,
                                                'log_level': 'INFO', **overrides})
        runner.train()
        text = next(Path(runner.log_dir).glob('*.log')).read_text()
        return [line.partition(START)[2] for line in text.splitlines() if START in line]

    return train


SRD = dict(type='SRDLoss', student='neck', teacher='neck')


@pytest.mark.parametrize('loss', [dict(SRD, weight=2.0), dict(SRD, balance=1.0), dict(SRD, weight=0.0)])
def test_one_that_works_or_is_off(warnings_of, loss):
    assert warnings_of(loss) == []


def test_a_constant_loss(warnings_of):
    assert warnings_of(dict(type='NothingLoss', student='neck', teacher='neck', weight=1.0))[0] == \
        'the loss was 3 in all 8 steps'


def test_projectors_that_are_frozen(warnings_of):
    found = warnings_of(custom_hooks=[dict(type='mmsrd.FrozenProjectors', priority='VERY_HIGH')])
    assert found == ['the projector gets no gradient (0.weight, 1.weight, 2.weight)']


def test_a_learning_rate_of_zero(warnings_of):
    found, = warnings_of(**{'optim_wrapper.optimizer.lr': 0.0})
    assert found.startswith('the alignment stayed at ')
    assert found.endswith('for 8 steps, and the projector hardly changed. Is its learning rate zero?')


def test_a_student_without_losses(warnings_of):
    found = warnings_of(dict(SRD, balance=1.0), **{f'model.bbox_head.loss_{part}.loss_weight': 0.0
                                                   for part in ('cls', 'bbox', 'centerness')})
    assert found == ["the balance is zero at all levels: the student's own losses send no gradient to 'neck', so this "
                     'loss sends none either']


def test_a_warm_up_is_waited_for(warnings_of):
    """The rate of the first steps is a thousandth; nothing is judged by them."""
    assert warnings_of(param_scheduler=[dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000)],
                       custom_hooks=[dict(type='mmsrd.FrozenProjectors', priority='VERY_HIGH')]) == []


def test_a_resumed_run_is_not_judged(make_runner, distill, monkeypatch):
    monkeypatch.setattr(no_effect_hook.NoEffectHook, '_judge', lambda *args: pytest.fail('it was judged'))
    monkeypatch.setattr(no_effect_hook, 'STEPS', 4)
    first = make_runner('run', distill, **{'param_scheduler': None})
    first._hooks = [hook for hook in first._hooks if not isinstance(hook, no_effect_hook.NoEffectHook)]
    first.train()
    again = make_runner('run', distill, **{'param_scheduler': None, 'train_cfg.max_epochs': 3, 'resume': True})
    again.train()
    assert again.iter == 12
    assert torch.isfinite(again.model.bbox_head.conv_cls.weight).all()
