"""A path that names a list of modules: its members are recorded, each call of one is a level."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from mmsrd.errors import TapError
from mmsrd.recorders import RecorderManager, dry_run, find_modules


class Lists(nn.Module):
    """Has a list as heads do, one that shares its member, one of lists, and one with a forward pass of its own."""

    def __init__(self):
        super().__init__()
        self.plain = nn.ModuleList([nn.Conv2d(3, width, 1) for width in (2, 4)])
        self.shared = nn.ModuleList([nn.Conv2d(3, 5, 1)] * 3)
        self.nested = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, 6, 1)]), nn.ModuleList([nn.Conv2d(3, 7, 1)])])
        self.pyramid = Pyramid([nn.AdaptiveAvgPool2d(size) for size in (1, 2)])
        self.empty = nn.ModuleList()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        for members in (self.plain, self.shared):
            for member in members:
                member(inputs)
        for members in self.nested:
            members[0](inputs)
        return self.pyramid(inputs)


class Pyramid(nn.ModuleList):
    """As PSPNet has it."""

    def forward(self, x):
        return [nn.functional.interpolate(member(x), x.shape[-2:]) for member in self]


@pytest.mark.parametrize(('path', 'shapes'), [
    ('plain', [(1, 2, 8, 8), (1, 4, 8, 8)]), ('plain.1', [(1, 4, 8, 8)]), ('shared', [(1, 5, 8, 8)] * 3),
    ('nested', [(1, 6, 8, 8), (1, 7, 8, 8)]), ('pyramid', [(1, 3, 8, 8)] * 2)])
def test_levels(path, shapes):
    model = Lists()
    run = dry_run(model, {path: 'k'}, [8])
    assert run.shapes(path, 'k') == shapes
    recorders = RecorderManager(model, {path: 'k'})
    with recorders.recording():
        model(torch.rand(1, 3, 8, 8))
        assert recorders.num_calls == {path: run.num_calls(path)}
        assert [tuple(level.shape) for level in recorders.pop_outputs()[path]] == shapes
    recorders.remove()
    assert not any(module._forward_hooks for module in model.modules())


def test_an_empty_list():
    assert find_modules(Lists(), 'empty', 'k') == []
    with pytest.raises(TapError, match="k = 'empty': the module is not called"):
        dry_run(Lists(), {'empty': 'k'}, [8])
