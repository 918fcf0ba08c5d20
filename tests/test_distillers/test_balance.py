"""The balance: its gradients against gradients taken one by one, and what must not change it."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers import balance_worker
from helpers.processes import launch
from helpers.two_levels import TwoLevels, attached, block, loss, steps, total
from torch import nn

import mmsrd
from mmsrd.distillers.balance import LIMIT, MOMENTUM, Balance
from mmsrd.distillers.gradient_taps import GradientTaps, MeasuredStep
from mmsrd.errors import ConfigError
from mmsrd.registry import MODELS

NECK = ['neck.0', 'neck.1']


@pytest.fixture
def images():
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def gradients_one_by_one(model, images, path):
    """What the student's own losses and the distillation loss without balance send to the output of a module."""
    plain = copy.deepcopy(model)
    for feature_loss in plain.distiller.feature_losses:
        feature_loss.balance = None
    seen = {}
    plain.get_submodule(path).register_forward_hook(lambda m, a, out: seen.update(out=out))
    losses = plain(images, mode='loss')
    own, = torch.autograd.grad(losses['loss'], seen['out'], retain_graph=True)
    distilled, = torch.autograd.grad(total(losses) - losses['loss'], seen['out'])
    return own, distilled


@pytest.mark.parametrize('kind', [dict(), dict(type='PKDLoss', projector=None), dict(type='FeatureMSELoss')])
def test_a_level_gets_balance_times_the_norm_of_its_own_gradient(images, kind):
    """Running means of three steps, each norm from gradients that are taken one by one."""
    model, _ = attached(block(a=loss('neck.0', balance=0.5, **kind), b=loss('neck.1', balance=2.0, **kind)))
    arrived = {}
    norms = {path: [] for path in NECK}
    for path in NECK:
        model.get_submodule(path).register_forward_hook(
            lambda m, a, out, path=path: out.register_hook(lambda g: arrived.update({path: g})) and None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for iteration in range(4):
        expected = {path: gradients_one_by_one(model, images, path) for path in NECK}
        optimizer.zero_grad()
        total(model(images, mode='loss')).backward()
        for path, target in zip(NECK, (0.5, 2.0)):
            own, distilled = expected[path]
            weights = [MOMENTUM ** age for age in range(len(norms[path]))][::-1]
            means = [sum(w * pair[i] for w, pair in zip(weights, norms[path])) for i in (0, 1)]
            factor = target * means[0] / means[1] if iteration else 0.0
            torch.testing.assert_close(arrived[path], own + factor * distilled, rtol=1e-4, atol=1e-7)
            norms[path].append((float(own.norm()), float(distilled.norm())))
        optimizer.step()


def test_the_first_step_is_that_of_the_student_alone_and_projectors_learn_at_once(images):
    model, distiller = attached(block(a=loss('neck.0', balance=1.0)))
    alone = copy.deepcopy(model)
    mmsrd.detach(alone)
    total(alone(images, mode='loss')).backward()
    expected = {name: p.grad for name, p in alone.named_parameters()}
    total(model(images, mode='loss')).backward()
    assert all(torch.equal(model.get_parameter(name).grad, gradient) for name, gradient in expected.items())
    assert all(p.grad.abs().sum() > 0 for p in distiller.parameters())


def test_projectors_get_the_unscaled_gradient(images):
    model, distiller = attached(block(a=loss('neck.0', balance=1.0)))
    steps(model, images)
    plain = copy.deepcopy(model)
    plain.distiller.losses['a'].balance = None
    for one in (model, plain):
        one.zero_grad()
        total(one(images, mode='loss')).backward()
    for a, b in zip(distiller.parameters(), plain.distiller.parameters()):
        assert torch.equal(a.grad, b.grad)
    assert not torch.equal(model.backbone.weight.grad, plain.backbone.weight.grad)


def test_other_losses_on_the_level_are_not_taken_for_the_students_own(images):
    """With a balanced and a constant loss beside it, a balanced loss has the factors that it has by itself."""
    own = loss('neck.0', balance=1.0)
    beside = dict(b=loss('neck.0', type='FeatureMSELoss', balance=3.0), c=loss('neck.0', type='PKDLoss', weight=5.0))
    measured = []
    for losses in (dict(a=own), dict(a=own, **beside), dict(**beside, a=own)):
        model, distiller = attached(block(**losses))
        distiller.losses['a'].projectors[0].weight.data.copy_(torch.eye(4))
        total(model(images, mode='loss')).backward()
        distiller.update_balances()
        measured.append(distiller.losses['a'].balance.norms)
    torch.testing.assert_close(measured[0], measured[1])
    torch.testing.assert_close(measured[0], measured[2])


def test_two_teachers(images):
    torch.manual_seed(0)
    distill = dict(teachers=dict(slow=dict(ema=dict(momentum=0.1)), fast=dict(ema=dict(momentum=0.9))),
                   losses=dict(a=loss('neck.0', from_teacher='slow', balance=1.0),
                               b=loss('neck.0', from_teacher='fast', balance=1.0)))
    model, distiller = attached(distill)
    distiller.update_ema(model)
    with torch.no_grad():
        model.neck[0].weight.add_(0.1)
    steps(model, images)
    distiller.update_balances()
    task = [distiller.losses[name].balance.norms[0] for name in 'ab']
    assert torch.equal(*task)
    assert all((distiller.losses[name].balance.factors() > 0).all() for name in 'ab')


@pytest.mark.parametrize('blind', [(1,), (0, 1)])
def test_a_level_whose_own_gradient_is_zero_gets_nothing(images, blind):
    model, distiller = attached(block(a=loss('neck.0', balance=1.0), b=loss('neck.1', balance=1.0)),
                                TwoLevels(blind=blind))
    gradients = steps(model, images)
    for i in blind:
        assert not gradients[f'neck.{i}.weight'].any()
    assert distiller.losses['b'].balance.factors().tolist() == [0.0]


def test_overwritten_outputs(images):
    """The student's own gradient is that of the output before it is written into, on which the recorder has a copy."""
    outcomes = []
    for overwrite in (True, False):
        torch.manual_seed(0)
        model, distiller = attached(block(a=loss('backbone', balance=1.0)), TwoLevels(overwrite=overwrite))
        with torch.no_grad():
            model.backbone.weight.add_(0.1)
            if not overwrite:  # the same function without writing into the feature
                model.neck[0].register_forward_pre_hook(lambda m, a: (a[0] + 1,))
                model.neck[1].register_forward_pre_hook(lambda m, a: (a[0] + 1,))
        outcomes.append((steps(model, images), distiller.losses['a'].balance.norms))
        distiller.update_balances()
        assert (distiller.losses['a'].balance.factors() > 0).all()
    (first, norms), (second, other_norms) = outcomes
    torch.testing.assert_close(norms, other_norms)
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name], msg=name)


def test_pooled_features_and_logits(images):
    losses = dict(pooled=loss('neck.0', balance=1.0, pool=True), logits=loss('head', type='KLDivLoss', balance=1.0))
    model, distiller = attached(block(**losses), Classifier())
    steps(model, images)
    distiller.update_balances()
    for name in losses:
        assert (distiller.losses[name].balance.factors() > 0).all(), name


class Classifier(nn.Module):
    """A feature map and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3)
        self.neck = nn.ModuleList([nn.Conv2d(4, 4, 1)])
        self.head = nn.Linear(4, 5)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.head(self.neck[0](self.backbone(inputs)).relu().mean((2, 3)))
        return dict(loss=logits.logsumexp(1).mean()) if mode == 'loss' else logits


@MODELS.register_module()
class CubicLoss(nn.Module):
    """A user's own loss, far from 1 in size."""

    def forward(self, student, teacher):
        return 1e-3 * (student - teacher).abs().pow(3).sum(), {}


def test_a_loss_of_ones_own(images):
    model, distiller = attached(block(a=loss('neck.0', type='CubicLoss', balance=1.0)))
    steps(model, images)
    own, distilled = gradients_one_by_one(model, images, 'neck.0')
    distiller.update_balances()
    factor = float(distiller.losses['a'].balance.factors())
    assert factor * float(distilled.norm()) == pytest.approx(float(own.norm()), rel=0.3)  # means of other steps


@pytest.mark.parametrize('processes', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_equal_one(tmp_path, processes):
    """Also where they have different numbers of images, or none; norms are exchanged in float32."""
    launch(processes, 'balance_worker.py', tmp_path / 'result')
    got = [torch.load(f'{tmp_path}/result.{rank}') for rank in range(processes)]
    for case, sizes in enumerate(balance_worker.SIZES[processes]):
        images = torch.cat([balance_worker.images_of(rank, count) for rank, count in enumerate(sizes)])
        expected = balance_worker.train(images)
        for results in got:
            for part, values in expected.items():
                for name, value in values.items():
                    torch.testing.assert_close(results[case][part][name], value, rtol=1e-5, atol=1e-7,
                                               msg=f'{sizes}, {part}, {name}')


@pytest.mark.parametrize('scale', [2.0 ** 10, 2.0 ** -3])
def test_the_loss_scale_changes_nothing(images, scale):
    """Also where it is that of accumulated steps; powers of two are exact."""
    distill = block(a=loss('neck.0', balance=1.0), b=loss('neck.1', type='FeatureMSELoss', balance=1.0))
    first, second = (attached(distill)[0] for _ in range(2))
    gradients = steps(first, images), steps(second, images, scale=scale)
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
    for name in 'ab':
        first.distiller.update_balances(), second.distiller.update_balances()
        assert torch.equal(first.distiller.losses[name].balance.norms, second.distiller.losses[name].balance.norms)


@pytest.mark.parametrize('scale', [float('inf'), float('nan')])
def test_a_step_that_overflows_changes_nothing(images, scale):
    model, distiller = attached(block(a=loss('neck.0', balance=1.0)))
    steps(model, images)
    distiller.update_balances()
    before = distiller.losses['a'].balance.norms.clone()
    (total(model(images, mode='loss')) * scale).backward()
    distiller.update_balances()
    assert torch.equal(distiller.losses['a'].balance.norms, before)


def test_forward_passes_alone_change_nothing(images):
    model, distiller = attached(block(a=loss('neck.0', balance=1.0)))
    steps(model, images)
    distiller.update_balances()
    before = distiller.losses['a'].balance.norms.clone()
    model(images, mode='loss')
    with torch.no_grad():
        model(images, mode='loss')
    model(images, mode='loss')
    distiller.update_balances()
    assert torch.equal(distiller.losses['a'].balance.norms, before)


@pytest.mark.parametrize('schedule', [dict(start=9), dict(end=1), dict(start=1, warmup=2)])
def test_nothing_is_touched_while_the_schedule_rests(images, schedule):
    model, distiller = attached(dict(block(a=loss('neck.0', balance=1.0)), schedule=schedule))
    distiller.progress.iteration = 0 if 'start' in schedule else 1
    alone = copy.deepcopy(model)
    mmsrd.detach(alone)
    total(alone(images, mode='loss')).backward()
    total(model(images, mode='loss')).backward()
    for name, parameter in alone.named_parameters():
        assert torch.equal(model.get_parameter(name).grad, parameter.grad), name
    distiller.update_balances()
    assert not distiller.losses['a'].balance.norms.any()


def test_a_warm_up_scales_what_the_student_gets(images):
    """Half-way the student gets half of it, and the norms do not change."""
    whole, half = (attached(dict(block(a=loss('neck.0', balance=1.0)), schedule=dict(warmup=4)))[0] for _ in range(2))
    changes = []
    for model, iteration in ((whole, 3), (half, 1)):
        distiller = model.distiller
        distiller.losses['a'].balance.norms.copy_(torch.tensor([[1.0], [2.0]]))
        distiller.progress.iteration = iteration
        assert distiller.progress.factor == (iteration + 1) / 4
        total(model(images, mode='loss')).backward()
        distiller.update_balances()
        changes.append(distiller.losses['a'].balance.last)
    torch.testing.assert_close(changes[0], changes[1])


def test_the_limit(monkeypatch):
    said = []
    monkeypatch.setattr('mmsrd.distillers.balance.print_log', lambda text, **options: said.append(text))
    balance = Balance('distill.losses.a', 1.0, [0, 2])
    for _ in range(3):
        balance.update(torch.tensor([[1.0, 1.0], [1.0, 1e-9]]), torch.tensor(True))
    assert balance.factors().tolist() == [1.0, LIMIT]
    assert len(said) == 1
    assert said[0].startswith('distill.losses.a.balance = 1: the gradient at level 2 ')


def test_half_precision_does_not_round_the_factor():
    """float16 knows numbers near 3e-6 to one part in 50 only."""
    level = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    step = MeasuredStep([0], torch.tensor([3e-6]), 1.0)
    tapped, = GradientTaps().tap([level * 1], False, step)
    (tapped * torch.tensor([1e4, 2e4, 3e4, 6e4], dtype=torch.float16)).sum().backward()
    torch.testing.assert_close(level.grad.float(), torch.tensor([0.03, 0.06, 0.09, 0.18]), rtol=2e-3, atol=0)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(balance=0), 'distill.losses.a.balance = 0: must be a number above 0'),
    (dict(balance='auto'), "distill.losses.a.balance = 'auto': must be a number"),
    (dict(balance=1.0, weight=0.25), 'distill.losses.a: has weight=0.25 and balance=1; write one of them'),
])
def test_wrong_values(options, message):
    with pytest.raises(ConfigError, match=message):
        mmsrd.attach(TwoLevels(), block(a=loss('neck.0', **options)))
