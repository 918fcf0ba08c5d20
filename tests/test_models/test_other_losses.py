"""The losses and projectors that SRD is compared with, against formulas written by hand."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import srd_oracle as oracle
from helpers.features import SHAPES, feature_pair

from mmsrd.errors import ConfigError, FeatureMismatchError
from mmsrd.models.losses import (
    BaseDistillLoss,
    BinaryKLDivLoss,
    CWDLoss,
    DISTLoss,
    FeatureMSELoss,
    LDLoss,
    PKDLoss,
    SRDLoss,
    VkDLoss,
)
from mmsrd.models.projectors import MLPProjector


@pytest.mark.parametrize('shape', SHAPES)
def test_pkd_is_one_less_the_correlation(shape):
    s, t = feature_pair(shape)
    loss, logs = PKDLoss(eps=0)(s, t)
    rows = [oracle.rows(x.numpy()) for x in (s, t)]
    correlations = [np.corrcoef(rows[0][:, c], rows[1][:, c])[0, 1] for c in range(rows[0].shape[1])]
    assert float(loss) == pytest.approx(1 - np.mean(correlations), rel=1e-10)
    assert float(logs['alignment']) == pytest.approx(np.mean(correlations), rel=1e-10)


@pytest.mark.parametrize('shape', SHAPES)
def test_squared_error(shape):
    s, t = feature_pair(shape)
    loss, logs = FeatureMSELoss()(s, t)
    assert float(loss) == pytest.approx(np.mean((s.numpy() - t.numpy()) ** 2), rel=1e-10)
    assert float(logs['alignment']) == pytest.approx(oracle.alignment(s.numpy(), t.numpy()), rel=1e-10)


@pytest.mark.parametrize('shape', SHAPES)
def test_vkd(shape):
    """Smooth L1 to rows that are normalised over their channels, by hand."""
    s, t = feature_pair(shape)
    loss, logs = VkDLoss()(s, t)
    rows, targets = (oracle.rows(x.numpy()) for x in (s, t))
    targets = (targets - targets.mean(1, keepdims=True)) / np.sqrt(targets.var(1, keepdims=True) + 1e-5)
    away = np.abs(rows - targets)
    expected = np.where(away < 1, 0.5 * away ** 2, away - 0.5).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    assert float(logs['alignment']) == pytest.approx(oracle.alignment(s.numpy(), t.numpy()), rel=1e-10)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_binary_kl_divergence(shape, temperature):
    """Against the divergence of Bernoulli distributions in torch.distributions."""
    s, t = feature_pair(shape)
    loss, logs = BinaryKLDivLoss(temperature)(s, t)
    rows = [torch.from_numpy(oracle.rows(x.numpy())) / temperature for x in (t, s)]
    each = torch.distributions.kl_divergence(*(torch.distributions.Bernoulli(logits=x) for x in rows))
    assert float(loss) == pytest.approx(float(temperature ** 2 * each.sum(1).mean()), rel=1e-10)
    assert logs == {}


def test_binary_kl_divergence_of_certain_logits():
    """Sigmoids that round to 0 and 1 give neither infinity nor NaN; by hand: KL(1 || sigmoid(-200)) = 200."""
    s = torch.tensor([[200.0, -200.0, -200.0]], requires_grad=True)
    loss, _ = BinaryKLDivLoss()(s, torch.tensor([[200.0, -200.0, 200.0]]))
    loss.backward()
    assert float(loss) == pytest.approx(200)
    torch.testing.assert_close(s.grad, torch.tensor([[0.0, 0.0, -1.0]]))  # sigmoid(s) - sigmoid(t)


@pytest.mark.parametrize('shape', SHAPES[1:])
@pytest.mark.parametrize('standardize', [True, False])
def test_channel_wise_divergence(shape, standardize):
    """Against the divergence of categorical distributions over the positions of each channel of each image."""
    s, t = feature_pair(shape)
    loss, logs = CWDLoss(3.0, standardize)(s, t)
    sides = [oracle.rows(x.numpy()) for x in (t, s)]
    if standardize:
        sides = [oracle.batch_norm(x, 1e-4) for x in sides]
    # rows are image by image, so (images, positions, channels) → one distribution for each image and channel
    sides = [torch.from_numpy(x).reshape(shape[0], -1, x.shape[1]).transpose(1, 2) / 3 for x in sides]
    each = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=x) for x in sides))
    assert float(loss) == pytest.approx(float(9 * each.mean()), rel=1e-10)
    assert float(logs['alignment']) == pytest.approx(oracle.alignment(s.numpy(), t.numpy()), rel=1e-10)


def test_channel_wise_divergence_needs_positions():
    with pytest.raises(FeatureMismatchError, match=r'vectors \(8, 4\) have none'):
        CWDLoss()(torch.zeros(8, 4), torch.zeros(8, 4))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_relations_of_classes(shape, temperature):
    """Against NumPy's correlation coefficients of rows and of columns."""
    s, t = feature_pair(shape)
    loss, logs = DISTLoss(temperature, beta=0.5, gamma=2.0)(s, t)
    p, q = (torch.from_numpy(oracle.rows(x.numpy()) / temperature).softmax(1).numpy() for x in (s, t))
    between = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    within = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    expected = temperature ** 2 * (0.5 * (1 - between) + 2 * (1 - within))
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    assert float(logs['between']) == pytest.approx(temperature ** 2 * (1 - between), rel=1e-9)
    assert float(logs['within']) == pytest.approx(temperature ** 2 * (1 - within), rel=1e-9)


def test_relations_of_classes_that_are_all_equal():
    """A head that begins with zeros has no correlations, and no gradient that explodes."""
    s = torch.zeros(8, 5, requires_grad=True)
    loss, _ = DISTLoss()(s, torch.randn(8, 5))
    loss.backward()
    assert float(loss) == 2
    assert not s.grad.any()


@pytest.mark.parametrize('logit', [-20.0, -35.0, -60.0, -90.0])
def test_relations_of_a_class_that_nothing_looks_like(logit):
    """Squares of its probabilities are smaller than float32 has; the correlation has no scale."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(8, 10, generator=generator) for _ in range(2))
    s[:, 3] += logit
    gradients = []
    for dtype in (torch.float32, torch.float64):
        x = s.clone().to(dtype).requires_grad_()
        loss, _ = DISTLoss()(x, t.to(dtype))
        loss.backward()
        gradients.append(x.grad.double())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)  # float32's rounding of correlations
    assert gradients[0][:, 3].any()


@pytest.mark.parametrize('shape', [(6, 12), (3, 7, 12), (2, 12, 4, 3)])
def test_distributions_of_edges(shape):
    """Against MMDetection's loss for rows of one edge, which divides by the bins."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss
    s, t = feature_pair(shape)
    loss, logs = LDLoss(bins=3, temperature=2.0)(s, t)
    edges = [torch.from_numpy(oracle.rows(x.numpy())).reshape(-1, 3) for x in (s, t)]
    assert float(loss) == pytest.approx(3 * float(KnowledgeDistillationKLDivLoss(T=2)(*edges)), rel=1e-10)
    assert logs == {}


def test_a_head_without_bins():
    with pytest.raises(FeatureMismatchError, match=r'LDLoss with bins=17 compares 68 channels, .* but got 4'):
        LDLoss()(torch.zeros(2, 4, 3, 3), torch.zeros(2, 4, 3, 3))


@pytest.mark.parametrize('loss', [DISTLoss(2.0), CWDLoss(), CWDLoss(standardize=False), LDLoss(3),
                                  LDLoss(3, 1.0)])
@pytest.mark.parametrize('shape', [(3, 7, 12), (2, 12, 4, 3)])
def test_gradients_of_distributions(loss, shape):
    s, t = feature_pair(shape)
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, t)[0], s.requires_grad_())
    loss(s, t)[0].backward()
    assert t.grad is None


@pytest.mark.parametrize('loss', [PKDLoss(), FeatureMSELoss(), VkDLoss(), BinaryKLDivLoss(2.0), SRDLoss(norm='none'),
                                  SRDLoss(norm='l2')])
@pytest.mark.parametrize('shape', SHAPES)
def test_gradients(loss, shape):
    s, t = feature_pair(shape)
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, t)[0], s.requires_grad_())
    loss(s, t)[0].backward()
    assert t.grad is None


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('norm', ['none', 'l2'])
def test_other_normalisations(shape, norm):
    s, t = feature_pair(shape)
    loss, logs = SRDLoss(norm=norm, alpha=4)(s, t)
    a, b = (oracle.rows(x.numpy()) for x in (s, t))
    if norm == 'l2':
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    assert float(loss) == pytest.approx(np.log(np.mean((a - b) ** 4) + 1e-8), rel=1e-9)
    assert float(logs['alignment']) == pytest.approx(oracle.alignment(s.numpy(), t.numpy()), rel=1e-9)


def test_batch_normalisation_is_the_default():
    s, t = feature_pair((16, 5))
    assert torch.equal(SRDLoss()(s, t)[0], SRDLoss(norm='batch')(s, t)[0])
    with pytest.raises(ConfigError, match="norm = 'layer': must be one of 'batch', 'spatial', 'l2', 'none'"):
        SRDLoss(norm='layer')
    with pytest.raises(ConfigError, match="norm = 'l2': form='correlation' needs norm='batch'"):
        SRDLoss(norm='l2', form='correlation')


def test_shapes_must_agree():
    with pytest.raises(FeatureMismatchError, match='PKDLoss compares two features of one shape'):
        PKDLoss()(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize('shape', [(4, 5), (2, 7, 5), (2, 5, 4, 3)])
@pytest.mark.parametrize('layers', [2, 3])
def test_mlp_projector(shape, layers):
    torch.manual_seed(0)
    mlp = MLPProjector(5, 6, layers=layers, hidden=8)
    x = torch.randn(shape)
    rows = torch.from_numpy(oracle.rows(x.numpy()))
    for i, layer in enumerate(mlp.linears):
        rows = rows @ layer.weight.T + layer.bias
        if i < layers - 1:
            rows = rows.relu()
    expected = rows.detach().numpy()
    np.testing.assert_allclose(oracle.rows(mlp(x).detach().numpy()), expected, rtol=1e-4, atol=1e-5)  # float32
    assert [tuple(layer.weight.shape) for layer in mlp.linears] == [(8, 5), *[(8, 8)] * (layers - 2), (6, 8)]
    assert MLPProjector(5, 6).linears[0].weight.shape == (6, 5)  # as wide as the teacher by default


@pytest.mark.parametrize('arguments', [dict(layers=1), dict(layers='2'), dict(hidden=0), dict(hidden=True)])
def test_wrong_mlp_arguments(arguments):
    (key, value), = arguments.items()
    with pytest.raises(ConfigError, match=f'{key} = {value!r}: must be'):
        MLPProjector(3, 4, **arguments)


class SquaredError(BaseDistillLoss):
    """A loss of a user, written as the guide says."""

    def compare(self, student, teacher, reduce):
        return (student - teacher).pow(2).mean()


@pytest.mark.parametrize(('dtype', 'computed'), [
    (torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_a_loss_of_a_user_computes_in_float32(dtype, computed):
    value, _ = SquaredError()(torch.full((8, 8), 300.0, dtype=dtype), torch.zeros(8, 8, dtype=dtype))
    assert value.dtype == computed
    assert value == 90_000  # too large for fp16
