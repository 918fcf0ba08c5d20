"""A batch or a map that is too small for statistics: the level counts as zero, and training goes on."""
from __future__ import annotations

import pytest
import torch
from helpers.two_levels import TwoLevels, attached, block, loss, total
from torch import nn

from mmsrd import (
    BaseDistillLoss,
    BinaryKLDivLoss,
    CWDLoss,
    DISTLoss,
    FeatureMSELoss,
    KLDivLoss,
    LDLoss,
    PKDLoss,
    SRDLoss,
    VkDLoss,
)
from mmsrd.models.projectors import LinearProjector
from mmsrd.ops import has_triton

BACKENDS = ['torch', 'autograd', *(['triton'] if has_triton() else [])]
STANDARDISING = [*(dict(type='SRDLoss', backend=backend, form=form) for backend in BACKENDS
                   for form in ('elementwise', 'correlation')),
                 dict(type='SRDLoss', backend='torch', reduction='sum'), dict(type='SRDLoss', eps=0.0),
                 dict(type='PKDLoss')]


def build(options):
    kind = dict(SRDLoss=SRDLoss, PKDLoss=PKDLoss)[options['type']]
    return kind(**{key: value for key, value in options.items() if key != 'type'})


def features(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize('options', STANDARDISING, ids=str)
@pytest.mark.parametrize('shape', [(0, 5), (1, 5), (3, 5), (1, 3, 5), (1, 5, 1, 1), (1, 5, 1, 3), (2, 5, 0, 3)])
def test_too_few_rows_give_zero(options, shape):
    student, teacher = features(shape)
    student.requires_grad_()
    value, logs = build(options)(student, teacher)
    value.backward()
    assert float(value) == 0
    assert not student.grad.any()
    assert logs['alignment'].isfinite()


@pytest.mark.parametrize('options', STANDARDISING, ids=str)
def test_other_levels_count_as_before(options):
    few, enough = features((2, 5)), features((2, 5, 4, 3))
    levels = [few[0].clone().requires_grad_(), enough[0].clone().requires_grad_()]
    value, _ = build(options)(levels, [few[1], enough[1]])
    value.backward()
    alone = enough[0].clone().requires_grad_()
    expected, _ = build(options)(alone, enough[1])
    (expected / 2).backward()
    torch.testing.assert_close(value, expected / 2)
    torch.testing.assert_close(levels[1].grad, alone.grad)
    assert not levels[0].grad.any()


@pytest.mark.parametrize(('criterion', 'shape'), [(DISTLoss(), (3, 5)), (DISTLoss(), (1, 5, 1, 3)),
                                                   (CWDLoss(), (1, 5, 1, 3))])
def test_other_statistics_of_too_few_rows(criterion, shape):
    student, teacher = features(shape)
    student.requires_grad_()
    value, logs = criterion(student, teacher)
    value.backward()
    assert float(value) == 0
    assert not student.grad.any()
    assert all(log.isfinite() for log in logs.values())


def test_one_position_is_enough_for_a_distribution():
    assert LDLoss(bins=5)(*features((1, 20)))[0] > 0
    assert CWDLoss(standardize=False)(*features((1, 5, 1, 3)))[0] > 0


@pytest.mark.parametrize('kind', [KLDivLoss, BinaryKLDivLoss, VkDLoss, FeatureMSELoss])
def test_losses_without_statistics_need_one_row(kind):
    assert kind()(*features((1, 5)))[0] > 0
    empty = torch.zeros(0, 5, requires_grad=True)
    value, logs = kind()(empty, torch.zeros(0, 5))
    value.backward()
    assert float(value) == 0
    assert all(log.isfinite() for log in logs.values())


def test_spatial_statistics_are_of_one_image():
    assert float(SRDLoss(norm='spatial')(*features((8, 5, 1, 3)))[0]) == 0
    assert float(SRDLoss(norm='spatial')(*features((1, 5, 2, 2)))[0]) != 0


def median_norm(rows, criterion, trials=41):
    """Of the gradient that a feature of so many rows gets through a projector."""
    generator = torch.Generator().manual_seed(rows)
    norms = []
    for trial in range(trials):
        torch.manual_seed(trial)
        projector = LinearProjector(16, 32)
        student = torch.randn(rows, 16, generator=generator, requires_grad=True)
        value, _ = criterion(projector(student), torch.randn(rows, 32, generator=generator))
        norms.append(torch.autograd.grad(value, student)[0].norm())
    return float(torch.stack(norms).median())


@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
def test_the_gradient_of_a_small_batch_is_that_of_a_mean(form):
    """From the smallest batch that counts on, it grows as ``1 / sqrt(rows)`` at most, give or take a third."""
    criterion = SRDLoss(form=form)
    expected = median_norm(32, criterion)
    for rows in (4, 8, 16):
        assert median_norm(rows, criterion) < 4 / 3 * expected * (32 / rows) ** 0.5
    assert median_norm(3, criterion) == median_norm(2, criterion) == 0


class Pooled(TwoLevels):
    """Its second level is a vector."""

    def __init__(self):
        super().__init__()
        self.neck = nn.ModuleList([self.neck[0], nn.Sequential(self.neck[1], nn.AdaptiveAvgPool2d(1))])


def messages_of(monkeypatch):
    said = []
    monkeypatch.setattr('mmsrd.distillers.feature_loss.print_log', lambda text, **options: said.append(text))
    return said


@pytest.mark.parametrize('options', [dict(weight=2.0), dict(balance=1.0), dict(weight=1.0, norm='spatial'),
                                     dict(type='PKDLoss')], ids=str)
def test_a_last_batch_of_one_image(options, monkeypatch):
    """Said once, whatever comes after it; the other loss goes on."""
    said = messages_of(monkeypatch)
    model, _ = attached(block(vector=loss('neck.1', **options), map=loss('neck.0')), Pooled())
    for count in (1, 8, 1, 2):
        model.zero_grad()
        losses = model(torch.rand(count, 3, 8, 8), mode='loss')
        total(losses).backward()
        assert (float(losses['loss_srd_vector']) == 0) == (count < 4 or options.get('norm') == 'spatial') or (
            'balance' in options)
        assert losses['loss_srd_map'] != 0
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    few, = (text for text in said if 'row(s)' in text)
    assert few.startswith('distill.losses.vector: level 0 of the student has 1 row(s) (images times positions) in this '
                          'step.')


class MeanDistance(BaseDistillLoss):
    """A loss of a user, which knows nothing of empty features and has nothing to log."""

    def compare(self, student, teacher, reduce):
        return (student - teacher).abs().mean()


@pytest.mark.parametrize('kind', [MeanDistance, 'mmdet.SmoothL1Loss', 'torch.nn.SmoothL1Loss'])
def test_a_loss_of_a_user_without_any_image(kind):
    """All that it returns is a tensor."""
    model, _ = attached(block(a=loss('neck.0', type=kind)))
    for count in (0, 2):
        losses = model(torch.rand(count, 3, 8, 8), mode='loss')
        total(losses).backward()
        assert (float(losses['loss_srd_a']) > 0) == (count > 0)
