"""LinearProjector is one matrix on every layout."""
from __future__ import annotations

import pytest
import torch

from mmsrd.errors import ConfigError, FeatureMismatchError
from mmsrd.models.projectors import LinearProjector


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
