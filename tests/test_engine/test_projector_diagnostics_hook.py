"""The paper's diagnostics against their definitions, in a run, and as pictures."""
from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from mmsrd.engine.hooks.projector_diagnostics_hook import SPECTRA, ProjectorDiagnosticsHook
from mmsrd.errors import ConfigError
from mmsrd.models.projectors import LinearProjector, MLPProjector
from mmsrd.models.projectors.diagnostics import cross_correlation, effective_rank, matrices, singular_values


def test_singular_values():
    torch.manual_seed(0)
    projector = LinearProjector(5, 7)
    expected = np.linalg.svd(projector.weight.detach().double().numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_values(projector).numpy(), expected, rtol=1e-5)  # float32
    mlp = MLPProjector(5, 7, layers=3, hidden=6)
    product = np.linalg.multi_dot([m.double().numpy() for m in matrices(mlp)[::-1]])
    np.testing.assert_allclose(singular_values(mlp).numpy(), np.linalg.svd(product, compute_uv=False), rtol=1e-4,
                               atol=1e-6)
    assert matrices(nn.Identity()) == []


@pytest.mark.parametrize(('values', 'rank'), [([1.0] * 8, 8), ([3.0, 0, 0], 1), ([2.0, 2.0, 0, 0], 2),
                                              ([3.0, 1.0], math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))])
def test_effective_rank(values, rank):
    assert effective_rank(torch.tensor(values)) == pytest.approx(rank, rel=1e-5)


def test_cross_correlation():
    torch.manual_seed(0)
    x = torch.randn(20_000, 3)
    assert cross_correlation(x, x) == pytest.approx(1 / 3, abs=0.02)  # each channel with itself, and noise of 1/64
    assert cross_correlation(x, torch.randn(20_000, 3)) < 0.03
    assert cross_correlation(x, -2 * x + 5) == pytest.approx(1 / 3, abs=0.02)
    maps = x.reshape(2, 100, 100, 3).permute(0, 3, 1, 2)
    assert cross_correlation(maps, maps) == pytest.approx(1 / 3, abs=0.02)


@pytest.fixture
def run(make_runner, distill, tmp_path):
    """A run of eight iterations with a look at every third."""
    runner = make_runner('run', distill, custom_hooks=[dict(type='mmsrd.ProjectorDiagnosticsHook', interval=3)])
    forwards = []
    runner.model.distiller.losses['neck'].projectors[0].register_forward_hook(lambda *args: forwards.append(1))
    runner.train()
    assert len(forwards) == 8  # no extra forward pass
    return tmp_path / 'run', runner


def test_the_hook_writes_scalars_and_spectra(run):
    folder, runner = run
    path, = folder.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in path.read_text().splitlines()]
    looks = [r for r in records if any(key.startswith('srd_effective_rank/') for key in r)]
    assert [r['step'] for r in looks] == [1, 4, 7]
    for what in ('effective_rank', 'largest_singular_value', 'cross_correlation', 'level_alignment'):
        assert all(f'srd_{what}/neck.{level}' in r for r in looks for level in range(3))
    logged = next(r for r in records if r.get('step') == 1 and 'srd_alignment_neck' in r)
    mean = np.mean([looks[0][f'srd_level_alignment/neck.{level}'] for level in range(3)])
    assert mean == pytest.approx(logged['srd_alignment_neck'], abs=1e-4)
    spectra = [json.loads(line) for line in path.with_name(SPECTRA).read_text().splitlines()]
    assert [s['step'] for s in spectra] == [1, 4, 7]
    assert len(spectra[0]['spectra']['neck.0']) == 32
    now = singular_values(runner.model.distiller.losses['neck'].projectors[0])
    assert spectra[-1]['spectra']['neck.0'][0] == pytest.approx(float(now[0]), rel=0.05)  # one step later


def test_gradient_norms_are_measured_with_a_constant_weight_too(run, make_runner, distill, tmp_path):
    """Those of the first step are the same with a balance and without; nothing has been scaled yet."""
    losses = dict(neck=dict(type='SRDLoss', student='neck', teacher='neck', balance=1.0))
    make_runner('balanced', {**distill, 'losses': losses},
                custom_hooks=[dict(type='mmsrd.ProjectorDiagnosticsHook', interval=3)]).train()
    looks = []
    for name in ('run', 'balanced'):
        path, = (tmp_path / name).glob('*/vis_data/scalars.json')
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        looks.append([line for line in lines if 'srd_task_norm/neck.0' in line])
    assert [[line['step'] for line in lines] for lines in looks] == [[1, 4, 7]] * 2
    # Level 2 is made of level 1, whose own gradient has that of level 2's loss in it where it is not scaled to 0.
    for key in ('srd_task_norm/neck.0', 'srd_task_norm/neck.2', *(f'srd_distill_norm/neck.{i}' for i in range(3))):
        # Where the task has nearly none, it is the difference of two gradients of 0.1, in float32.
        assert looks[0][0][key] == pytest.approx(looks[1][0][key], rel=1e-5, abs=1e-8)
    assert looks[0][0]['srd_distill_norm/neck.0'] > 0
    assert 'srd_balance/neck.0' not in looks[0][0]


def test_training_is_the_same_with_it(run, make_runner, distill):
    _, runner = run
    other = make_runner('other', distill)
    other.train()
    assert all(torch.equal(a, b) for a, b in zip(runner.model.parameters(), other.model.parameters()))


@pytest.mark.parametrize('interval', [0, -1, 1.5, True, '10'])
def test_wrong_interval(interval):
    with pytest.raises(ConfigError, match=r'ProjectorDiagnosticsHook\.interval = '):
        ProjectorDiagnosticsHook(interval)
