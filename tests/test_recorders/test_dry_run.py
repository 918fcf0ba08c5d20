"""The dry run shows what modules return, and leaves no trace."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers.toy_models import Pyramid, Residual, Squeezing
from torch import nn

from mmsrd.errors import TapError
from mmsrd.recorders import dry_run, fixed_sides


def test_an_output_that_is_overwritten_is_noticed():
    run = dry_run(Residual(), {'norm': 'a', 'alias.0': 'b'})
    assert run.is_overwritten('norm')
    assert not run.is_overwritten('alias.0')


def test_a_model_that_squeezes_one_image():
    assert dry_run(Squeezing(), {'squeezed': 'k'}).shapes('squeezed', 'k') == [(2, 3)]


def test_it_changes_nothing():
    model = Pyramid(side=224).train()
    model.norm.eval()
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    run = dry_run(model, {'stem': 'a', 'head': 'b'})
    assert run.image == (224, 224)  # 128 was refused by the model
    assert run.shapes('head', 'b') == [(1, 2, 112, 112), (1, 2, 56, 56)]
    assert (run.num_calls('stem'), run.num_calls('head')) == (1, 2)
    assert run.called == {model, model.stem, model.norm, model.head}
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert model.training
    assert model.stem.training
    assert not model.norm.training
    calls = len(run.calls)
    model(torch.zeros(1, 3, 224, 224))
    assert len(run.calls) == calls  # its hooks are gone


def test_what_can_be_trained():
    model = Pyramid()
    model.stem.requires_grad_(False)
    model.norm.requires_grad_(False)
    run = dry_run(model, {'norm': 'a', 'head': 'b'}, gradients=True)
    assert (run.is_trained('norm', 'a'), run.is_trained('head', 'b')) == (False, True)


def test_a_failure_quotes_the_model():
    with pytest.raises(TapError, match="k = 'stem': .* ended with ValueError: only 7 pixels"):
        dry_run(Pyramid(side=7), {'stem': 'k'})


def test_what_is_there_of_several_modules():
    run = dry_run(Pyramid(), {'head': 'a', 'unused': 'b'}, partly=True)
    assert len(run.shapes('head', 'a')) == 2
    with pytest.raises(TapError, match=r"b = 'unused': the module is not called by Pyramid.forward$"):
        run.shapes('unused', 'b')


def test_sides_that_models_name():
    part = nn.Identity()
    part.img_size = (192, 192)
    whole = nn.Sequential(part, nn.Identity())
    whole[1].img_size = (128, 256)  # no square
    whole.img_size = 224
    assert fixed_sides(whole) == [224, 192]


class FailsOnSmallLevels(nn.Module):
    """As a head whose normalisation refuses a level of one position."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 1, stride=64)
        self.head = nn.Conv2d(2, 2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = []
        x = self.stem(inputs)
        for level in (x, x, x[..., ::2, ::2]):
            if level.size(-1) == 1:
                raise ValueError('one position')
            outputs.append(self.head(level))
        return outputs


def test_a_failure_between_two_calls_of_a_module():
    """The module was called, but not as often as on larger images."""
    run = dry_run(FailsOnSmallLevels(), {'head': 'k'})
    assert run.num_calls('head') == 3
    assert run.image == (224, 224)
    assert dry_run(FailsOnSmallLevels(), {'head': 'k'}, sides=[128, 64]).num_calls('head') == 2  # better than none
