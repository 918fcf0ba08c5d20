"""Taps record while armed, and only then; the dry run leaves no trace."""
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmsrd.errors import TapError
from mmsrd.probe import probe
from mmsrd.taps import TapSet, as_levels


class Pyramid(nn.Module):
    """A model in MMEngine's calling convention with a shared head and an unused module."""

    def __init__(self, side: int | None = None) -> None:
        super().__init__()
        self.side = side
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 2, 1)
        self.unused = nn.Conv2d(4, 2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if self.side and inputs.shape[-1] != self.side:
            raise ValueError(f'only {self.side} pixels')
        x = self.norm(self.stem(inputs + torch.rand_like(inputs)))
        return [self.head(level) for level in (x, x[..., ::2, ::2])]


def test_records_only_while_armed_and_lets_go():
    model = Pyramid()
    taps = TapSet(model, {'stem': 'a', 'head': 'b'})
    inputs = torch.zeros(1, 3, 8, 8)
    model(inputs)
    assert taps.calls() == {'stem': 0, 'head': 0}
    taps.arm()
    model(inputs)
    assert taps.calls() == {'stem': 1, 'head': 2}
    taken = taps.take()
    assert [tuple(x.shape) for x in taken['head']] == [(1, 2, 4, 4), (1, 2, 2, 2)]
    assert all(not tap.outputs and not tap.armed for tap in taps.taps.values())
    taps.arm()
    model(inputs)
    taps.disarm()
    assert taps.calls() == {'stem': 0, 'head': 0}


def test_a_copy_of_the_model_has_taps_of_its_own():
    model = Pyramid()
    taps = TapSet(model, {'stem': 'a'})
    copied, copied_taps = copy.deepcopy((model, taps))
    copied_taps.arm()
    taps.arm()
    copied(torch.zeros(1, 3, 8, 8))
    assert (taps.calls(), copied_taps.calls()) == ({'stem': 0}, {'stem': 1})


class Residual(nn.Module):
    """Writes into the output of its normalisation, as ResNet blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.shared = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, 3, 1)])])
        self.alias = nn.ModuleList([self.shared[0][0]])

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.norm(inputs)
        out += 10
        return self.alias[0](out)


def test_an_output_that_is_overwritten_is_copied():
    model = Residual()
    taps = TapSet(model, {'norm': 'a'})
    probe(model, taps)
    assert taps.taps['norm'].copies
    taps.arm()
    inputs = torch.randn(2, 3, 4, 4)
    model(inputs)
    torch.testing.assert_close(taps.take()['norm'][0], model.norm(inputs))


def test_an_output_that_is_overwritten_unexpectedly_is_an_error():
    model = Residual()
    taps = TapSet(model, {'norm': 'k'})
    taps.arm()
    model(torch.randn(2, 3, 4, 4))
    with pytest.raises(TapError, match="k = 'norm': the model changes its output in place"):
        taps.take()


def test_both_names_of_a_shared_module_are_paths():
    TapSet(Residual(), {'shared.0.0': 'a', 'alias.0': 'b'})


def test_a_tap_that_was_not_called():
    taps = TapSet(Pyramid(), {'unused': 'distill.losses.x.student'})
    taps.arm()
    with pytest.raises(TapError, match=r"distill.losses.x.student = 'unused': the module was not called"):
        taps.take()


@pytest.mark.parametrize(('output', 'what'), [
    (None, 'a NoneType'), (dict(a=torch.zeros(1), b=3), r"a dict of \['Tensor', 'int'\]"), ((), r"a tuple of \[\]"),
    ((None, None), r"a tuple of \[\]"),
])
def test_outputs_without_tensors(output, what):
    with pytest.raises(TapError, match=f"k = 'p': its output is not a tensor or a list of tensors but {what}"):
        as_levels(output, 'k', 'p')


def test_an_output_that_is_switched_off_does_not_count():
    x = torch.zeros(1)
    assert as_levels((None, x), 'k', 'p') == [x]  # InceptionV3 without its auxiliary classifier


def test_dry_run_of_a_model_that_squeezes_one_image():
    class Squeezing(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.AdaptiveAvgPool2d(1)
            self.squeezed = nn.Identity()

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.squeezed(self.last(inputs).squeeze())

    model = Squeezing()
    assert probe(model, TapSet(model, {'squeezed': 'k'})).shapes['squeezed'] == [(2, 3)]


def test_dry_run_changes_nothing():
    model = Pyramid(side=224).train()
    model.norm.eval()
    taps = TapSet(model, {'stem': 'a', 'head': 'b'})
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    result = probe(model, taps)
    assert result.image == (224, 224)  # 128 was refused by the model
    assert result.shapes['head'] == [(1, 2, 112, 112), (1, 2, 56, 56)]
    assert result.calls == {'stem': 1, 'head': 2}
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert model.training
    assert model.stem.training
    assert not model.norm.training


def test_dry_run_that_fails_quotes_the_model():
    model = Pyramid(side=7)
    with pytest.raises(TapError, match="k = 'stem': .* ended with ValueError: only 7 pixels"):
        probe(model, TapSet(model, {'stem': 'k'}))
