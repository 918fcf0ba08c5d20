"""SRDLoss against an independent float64 oracle, analytic limits, and gradcheck."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import srd_oracle as oracle
from helpers.features import SHAPES, feature_pair

from mmsrd.errors import ConfigError, FeatureMismatchError
from mmsrd.models.losses import KLDivLoss, SRDLoss


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('alpha', [1, 1.5, 2, 3, 4, 5, 8])
@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
def test_equals_the_published_formula(shape, alpha, form):
    s, t = feature_pair(shape)
    loss, logs = SRDLoss(alpha=alpha, form=form)(s, t)
    expected = getattr(oracle, form)(s.numpy(), t.numpy(), alpha)
    assert float(loss) == pytest.approx(expected, rel=1e-12)  # the same float64 sums, in another order
    assert float(logs['alignment']) == pytest.approx(oracle.alignment(s.numpy(), t.numpy()), rel=1e-12)


@pytest.mark.parametrize('shape', SHAPES)
def test_float32_is_close_to_float64(shape):
    s, t = feature_pair(shape)
    loss, _ = SRDLoss()(s.float(), t.float())
    # The mean of 10 costs a digit of float32's seven in the subtraction.
    assert float(loss) == pytest.approx(oracle.elementwise(s.numpy(), t.numpy(), 4), rel=1e-5)


def test_sum_differs_by_log_numel_and_has_the_same_gradient():
    s, t = feature_pair((2, 5, 4, 3))
    grads, values = [], []
    for reduction in ('mean', 'sum'):
        leaf = s.clone().requires_grad_()
        loss, _ = SRDLoss(reduction=reduction)(leaf, t)
        grads.append(torch.autograd.grad(loss, leaf)[0])
        values.append(float(loss))
    assert values[1] - values[0] == pytest.approx(math.log(s.numel()), rel=1e-12)
    assert torch.equal(*grads)


def test_alpha_two_is_two_minus_two_rho_in_the_log():
    """For exactly standardised features mean (z − t)² = 2 (1 − mean rho)."""
    s, t = feature_pair((64, 5))
    loss, logs = SRDLoss(alpha=2, eps=0)(s, t)
    assert float(loss.exp()) == pytest.approx(2 * (1 - float(logs['alignment'])), rel=1e-6)  # 1e-8 inside the log


def test_unrelated_normal_features_are_near_log_twelve():
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(200_000, 4, generator=generator) for _ in range(2))
    loss, logs = SRDLoss(alpha=4)(s, t)
    # z − t is normal with variance 2, whose fourth moment is 3·2² = 12; 8e5 samples leave about 1 % of noise.
    assert float(loss) == pytest.approx(math.log(12), abs=0.03)
    assert abs(float(logs['alignment'])) < 0.01


@pytest.mark.parametrize('alpha', [1, 1.5, 2, 4])
@pytest.mark.parametrize(('form', 'eps', 'tolerance'), [
    ('elementwise', 1e-4, 0),  # z − t is 0 to the bit
    ('correlation', 0, 1e-9),  # rho is 1 up to rounding, about 1e-16, which 1 / 1e-5 of the log enlarges
])
def test_identical_inputs_are_finite_without_gradient(form, eps, tolerance, alpha):
    s, _ = feature_pair((32, 5))
    leaf = s.clone().requires_grad_()
    loss, logs = SRDLoss(alpha=alpha, form=form, eps=eps)(leaf, s)
    grad = torch.autograd.grad(loss, leaf)[0]
    assert torch.isfinite(loss)
    assert grad.abs().max() <= tolerance
    assert float(logs['alignment']) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
@pytest.mark.parametrize('alpha', [1, 2, 2.5, 4])
@pytest.mark.parametrize('shape', SHAPES)
def test_gradcheck(form, alpha, shape):
    s, t = feature_pair(shape)
    module = SRDLoss(alpha=alpha, form=form)
    assert torch.autograd.gradcheck(lambda x: module(x, t)[0], s.requires_grad_())


def test_no_gradient_into_the_teacher():
    s, t = feature_pair((8, 5))
    t.requires_grad_()
    loss, _ = SRDLoss()(s.requires_grad_(), t)
    loss.backward()
    assert t.grad is None
    assert s.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_computed_in_float32_under_autocast(dtype):
    s, t = feature_pair((64, 5), dtype=dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss, _ = SRDLoss()(s, t)
    assert loss.dtype == torch.float32
    # Equal up to float32: the low-precision inputs themselves are what is compared.
    assert float(loss) == pytest.approx(oracle.elementwise(s.double().numpy(), t.double().numpy(), 4), rel=1e-5)


def test_constant_channels_are_finite():
    loss, logs = SRDLoss()(torch.ones(8, 3, requires_grad=True), torch.randn(8, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logs['alignment'])


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(alpha=0.5), 'alpha = 0.5: must be a number of at least 1'),
    (dict(alpha='4'), "alpha = '4'"),
    (dict(alpha=float('nan')), 'alpha = nan'),
    (dict(form='cosine'), "form = 'cosine': must be one of 'elementwise', 'correlation'"),
    (dict(reduction='none'), "reduction = 'none'"),
    (dict(eps=-1), 'eps = -1'),
    (dict(eps=float('inf')), 'eps = inf'),
    (dict(alpha=True), 'alpha = True'),
    (dict(sync='no'), "sync = 'no': must be True or False"),
])
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SRDLoss(**arguments)


@pytest.mark.parametrize('shapes', [((4, 3), (4, 5)), ((4,), (4,)), ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6))])
def test_shapes_that_do_not_fit_are_quoted(shapes):
    with pytest.raises(FeatureMismatchError) as error:
        SRDLoss()(*(torch.zeros(shape) for shape in shapes))
    assert str(shapes[0]) in str(error.value)
    assert str(shapes[1]) in str(error.value)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('temperature', [1, 4.0])
def test_kl_divergence(shape, temperature):
    s, t = feature_pair(shape)
    module = KLDivLoss(temperature)
    loss, logs = module(s, t)
    assert float(loss) == pytest.approx(oracle.kl_divergence(s.numpy(), t.numpy(), temperature), rel=1e-10)
    assert logs == {}
    assert float(module(s, s)[0]) == 0
    assert torch.autograd.gradcheck(lambda x: module(x, t)[0], s.requires_grad_())
    assert module(s.bfloat16(), t.bfloat16())[0].dtype == torch.float32


def test_kl_gradient_keeps_its_size_with_the_temperature():
    """T² makes up for the softened slopes: for small logits the gradient tends to (s − t) / (N·C), Hinton et al."""
    s, t = (x * 1e-3 for x in feature_pair((16, 5)))
    s, t = s - s.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    for temperature in (1, 10):
        leaf = s.clone().requires_grad_()
        KLDivLoss(temperature)(leaf, t)[0].backward()
        torch.testing.assert_close(leaf.grad, (s - t) / s.numel(), rtol=0.02, atol=1e-7)  # to first order in s / T


@pytest.mark.parametrize('arguments', [dict(temperature=0), dict(temperature='1'), dict(temperature=True),
                                       dict(sync=1)])
def test_wrong_kl_arguments(arguments):
    (key, value), = arguments.items()
    with pytest.raises(ConfigError, match=f'{key} = {value!r}: must be'):
        KLDivLoss(**arguments)


@pytest.mark.parametrize('backend', ['torch', 'autograd'])
@pytest.mark.parametrize('shape', [(3, 5, 4, 6), (3, 7, 5)])
@pytest.mark.parametrize('alpha', [1, 3, 4])
def test_spatial_statistics(shape, alpha, backend):
    """Every channel of every image is standardised by itself; the mean inside the logarithm is over all of them."""
    s, t = feature_pair(shape)
    images = []
    for pair in zip(s.numpy(), t.numpy()):
        positions = [oracle.rows(x[None]) for x in pair]
        images.append(np.abs(oracle.batch_norm(positions[0], 1e-4) - oracle.batch_norm(positions[1], 1e-4)) ** alpha)
    loss, _ = SRDLoss(alpha=alpha, norm='spatial', backend=backend)(s, t)
    assert float(loss) == pytest.approx(float(np.log(np.mean(images) + 1e-8)), rel=1e-10)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_spatial_gradients(layout):
    s, t = feature_pair((2, 5, 4, 3))
    s = s.to(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SRDLoss(norm='spatial', backend='torch')(x, t)[0], s)


def test_spatial_statistics_need_positions():
    with pytest.raises(FeatureMismatchError, match=r"norm='spatial'\) got vectors \(8, 3\)"):
        SRDLoss(norm='spatial')(torch.randn(8, 3), torch.randn(8, 3))
    with pytest.raises(ConfigError, match="norm = 'spatial': form='correlation' needs norm='batch'"):
        SRDLoss(norm='spatial', form='correlation')
