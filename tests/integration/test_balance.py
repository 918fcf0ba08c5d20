"""The balance in detectors that are trained: accumulation, clipping, checkpointing, torch.compile, the log."""
from __future__ import annotations

import copy
import json

import pytest
import torch
from helpers.two_levels import attached, block, loss, total
from torch.utils._python_dispatch import TorchDispatchMode

import mmsrd
from mmsrd.compat.torch_versions import TORCH
from mmsrd.distillers.feature_loss import FeatureLoss
from mmsrd.distillers.finite_check import FiniteCheck

BALANCED = dict(neck=dict(student='neck', teacher='neck', balance=1.0))


@pytest.fixture
def balanced(distill):
    return dict(distill, losses=BALANCED)


def norms_of(model):
    return model.distiller.losses['neck'].balance.norms


@pytest.mark.parametrize('options', [{'optim_wrapper.accumulative_counts': 4},
                                     {'optim_wrapper.clip_grad': dict(max_norm=1e-3)}])
def test_accumulation_and_clipping_change_no_norm(make_runner, balanced, options):
    """The learning rate is zero, so that all steps of both runs start from the same weights."""
    options = {**options, 'optim_wrapper.optimizer.lr': 0.0}
    plain = make_runner('plain', balanced, **{'optim_wrapper.optimizer.lr': 0.0}).train()
    other = make_runner('other', balanced, **options).train()
    assert (norms_of(plain) > 0).all()
    assert torch.equal(norms_of(plain), norms_of(other))


def gradients(model, data, call=None):
    for _ in range(2):
        model.zero_grad()
        losses = (model if call is None else call)(**data)
        sum(v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if 'loss' in k).backward()
    model.distiller.update_balances()
    return [p.grad for p in model.parameters() if p.grad is not None], norms_of(model)


@pytest.mark.parametrize('change', ['with_cp', pytest.param('compile', marks=[
    pytest.mark.slow, pytest.mark.skipif(TORCH < (2, 1), reason='torch.compile has not been tried')])])
def test_checkpointed_and_compiled_students(student, balanced, batch, change):
    torch.manual_seed(0)
    mmsrd.attach(student, balanced)
    data = batch(student)
    other = copy.deepcopy(student)
    call = None
    if change == 'compile':
        call = torch.compile(other, backend='aot_eager')
    else:
        for layer in ('layer1', 'layer2', 'layer3'):
            for part in getattr(other.backbone, layer):
                part.with_cp = True
    expected, got = gradients(student, data), gradients(other, data, call)
    # A level without an object has 1e-5 of the largest gradient, which sums in another order change.
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-5 * float(expected[1].max()))
    for a, b in zip(got[0], expected[0]):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)  # recomputed in another order


def test_the_log(make_runner, balanced, tmp_path):
    runner = make_runner('run', balanced, custom_hooks=[dict(type='mmsrd.ProjectorDiagnosticsHook', interval=1)],
                         **{'default_hooks.logger': dict(type='LoggerHook', interval=1)})
    runner.train()
    written = next((tmp_path / 'run').glob('*/vis_data/scalars.json')).read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    logged = [line['srd_balance_neck'] for line in lines if 'loss' in line]
    looked = [line for line in lines if 'srd_balance/neck.0' in line]
    assert logged[0] == 0
    assert len(looked) == len(logged) == runner.iter
    for before, line in zip(looked, logged[1:]):  # the factors after a step are those of the next
        assert sum(before[f'srd_balance/neck.{i}'] for i in range(3)) / 3 == pytest.approx(line, rel=1e-3)
    assert all(line[f'srd_{what}_norm/neck.{i}'] > 0 for line in looked for what in ('task', 'distill')
               for i in range(3))


class HostReads(TorchDispatchMode):
    """Counts operators that make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(name in str(function) for name in ('_local_scalar_dense', 'nonzero', 'item', 'equal')):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


def test_the_host_never_waits(monkeypatch):
    monkeypatch.setattr(FeatureLoss, 'describe_non_finite', lambda *args: '')  # which looks at once on the CPU
    model, distiller = attached(block(a=loss('neck.0', balance=1.0), b=loss('neck.1', balance=0.5)))
    distiller.finite = FiniteCheck(delayed=True)
    images = torch.rand(2, 3, 8, 8)
    with HostReads() as reads:
        for _ in range(3):
            total(model(images, mode='loss')).backward()
            distiller.update_balances()
    assert reads.found == []
    with HostReads() as reads:
        float(distiller.losses['a'].balance.norms[0])
    assert len(reads.found) == 1
