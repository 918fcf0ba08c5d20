"""LinearProjector is one matrix on every layout."""
from __future__ import annotations

import copy

import pytest
import torch

from mmsrd.errors import ConfigError, FeatureMismatchError
from mmsrd.models.projectors import LinearProjector, OrthogonalProjector


@pytest.mark.parametrize('bias', [False, True])
def test_same_matrix_on_maps_tokens_and_vectors(bias):
    projector = LinearProjector(5, 3, bias=bias).double()
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    expected = torch.einsum('oc,nchw->nohw', projector.weight, x)
    if bias:
        torch.nn.init.normal_(projector.bias)
        expected = expected + projector.bias[:, None, None]
    assert torch.allclose(projector(x), expected, rtol=1e-12)
    assert torch.allclose(projector(x.flatten(2).transpose(1, 2)), expected.flatten(2).transpose(1, 2), rtol=1e-12)
    assert torch.allclose(projector(x[:, :, 0, 0]), expected[:, :, 0, 0], rtol=1e-12)


def test_no_bias_by_default():
    assert [name for name, _ in LinearProjector(5, 3).named_parameters()] == ['weight']


def test_bias_must_be_a_bool():
    with pytest.raises(ConfigError, match="bias = 'off'"):
        LinearProjector(5, 3, bias='off')


def test_wrong_rank():
    with pytest.raises(FeatureMismatchError, match=r'\(1, 2, 3, 4, 5\)'):
        LinearProjector(2, 2)(torch.zeros(1, 2, 3, 4, 5))


@pytest.mark.parametrize('widths', [(5, 8), (8, 5), (6, 6)])
def test_an_orthogonal_matrix_stays_one(widths):
    """Also after steps, as a copy, and from a checkpoint; distances are kept where the teacher is wider."""
    torch.manual_seed(0)
    projector = OrthogonalProjector(*widths).double()
    optimizer = torch.optim.SGD(projector.parameters(), lr=1.0, weight_decay=0.1)
    before = projector.matrices()[0]
    for _ in range(3):
        optimizer.zero_grad()
        projector(torch.randn(9, widths[0], dtype=torch.float64)).pow(4).mean().backward()
        optimizer.step()
    assert not torch.allclose(projector.matrices()[0], before, atol=1e-3)
    other = OrthogonalProjector(*widths).double()
    other.load_state_dict(projector.state_dict())
    x = torch.randn(2, widths[0], 4, 3, dtype=torch.float64)
    for one in (projector, copy.deepcopy(projector), other):
        matrix, = one.matrices()
        small = matrix.T @ matrix if widths[1] >= widths[0] else matrix @ matrix.T
        identity = torch.eye(min(widths), dtype=torch.float64)
        torch.testing.assert_close(small, identity, rtol=0, atol=1e-6)  # it was made in float32
        torch.testing.assert_close(one(x), torch.einsum('oc,nchw->nohw', matrix, x))
    torch.testing.assert_close(projector(x.flatten(2).transpose(1, 2)), projector(x).flatten(2).transpose(1, 2))


def test_an_orthogonal_matrix_under_autocast():
    with torch.autocast('cpu', torch.bfloat16):
        assert OrthogonalProjector(5, 8)(torch.randn(2, 5, 4, 3)).dtype == torch.bfloat16
