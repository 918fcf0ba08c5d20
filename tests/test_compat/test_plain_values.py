"""A checkpoint that a run has written can be read again, whatever data sets and hooks have put into it."""
from __future__ import annotations

import enum
import types
from collections import OrderedDict, defaultdict, deque, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.weights import load, same
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.registry import HOOKS

from mmsrd.compat import load_checkpoint_file, make_plain


class Colour(enum.Enum):
    RED = (255, 0, 0)


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    """A string of a class of its own."""


class Thing:
    """Nothing that a checkpoint could hold."""

    def __str__(self):
        return 'a thing'


Point = namedtuple('Point', 'x y')
ODD = dict(config=ConfigDict(a=ConfigDict(b=[ConfigDict(c=1)])), path=Path('x/y'), colour=Colour.RED, level=Level.HIGH,
           default=defaultdict(list, a=[Path('z')]), text=Text('t'), point=Point(1, Path('p')), queue=deque([1]),
           frozen=frozenset([1]), range=range(3), read_only=types.MappingProxyType(dict(a=1)), key={Path('k'): 1},
           many=np.array([Path('o'), None], dtype=object))
PLAIN = dict(config=dict(a=dict(b=[dict(c=1)])), path='x/y', colour=(255, 0, 0), level=3, default=dict(a=['z']),
             text='t', point=(1, 'p'), queue=[1], frozen={1}, range=[0, 1, 2], read_only=dict(a=1), key={'k': 1})


def types_in(value):
    members = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    return {type(value)}.union(*map(types_in, members))


def test_what_is_written_can_be_read(tmp_path):
    checkpoint = dict(meta=dict(ODD, thing=Thing()))
    replaced = make_plain(checkpoint)
    assert {place: kind.rpartition('.')[2] for place, kind in replaced.items()} == {
        'meta.thing': 'Thing', 'meta.many': 'ndarray'}
    torch.save(checkpoint, tmp_path / 'c.pth')
    read = load_checkpoint_file(str(tmp_path / 'c.pth'), 'resume')['meta']
    assert read.pop('thing') == 'a thing'
    assert isinstance(read.pop('many'), str)
    assert read == PLAIN
    assert types_in(read) <= {dict, list, tuple, set, str, int}


def test_what_is_plain_stays_the_same_object():
    state = OrderedDict(w=torch.zeros(2))
    state._metadata = {'': dict(version=2)}
    entries = dict(state_dict=state, numbers=[1, 2.5, None, True], buffer=HistoryBuffer(), array=np.arange(3),
                   scalar=np.float64(2), size=torch.Size([1]), nested=dict(a=(1, dict(b={2}))))
    checkpoint = dict(entries)
    assert make_plain(checkpoint) == {}
    assert all(checkpoint[key] is value for key, value in entries.items())
    state['path'] = Path('x')
    checkpoint = dict(state_dict=state)
    make_plain(checkpoint)
    assert checkpoint['state_dict']._metadata == state._metadata
    assert state['path'] == Path('x')


@HOOKS.register_module(force=True)
class OddHook(Hook):
    """Puts into checkpoints what MMEngine would pickle by its class."""

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['odd'] = dict(ODD, thing=Thing())

    def after_load_checkpoint(self, runner, checkpoint):
        assert {key: value for key, value in checkpoint['odd'].items() if key in PLAIN} == PLAIN


@pytest.mark.parametrize('runner_type', ['mmsrd.DistillRunner', 'mmsrd.DistillFlexibleRunner'])
def test_a_run_resumes_from_its_own_checkpoint(make_runner, distill, tmp_path, runner_type):
    """Schedulers have functions in their state; data sets have dicts of MMEngine in their metainfo."""
    odd = dict(classes=tuple('0123456789'), superclass=dict(a='x'), folder=Path('x'), colour=Colour.RED)
    options = {'train_dataloader.dataset.metainfo': odd, 'runner_type': runner_type,
               'param_scheduler': [dict(type='OneCycleLR', eta_max=0.01, total_steps=8, by_epoch=False)]}
    hook = dict(custom_hooks=[dict(type='OddHook')])
    whole = make_runner('whole', distill, **hook, **options)
    whole.train()
    make_runner('run', distill, **hook, **options)
    resumed = make_runner('run', distill, **hook, **options, resume=True, load_from=str(tmp_path / 'whole/epoch_1.pth'))
    resumed.train()
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    meta = load(tmp_path / 'whole/epoch_1.pth')['meta']['dataset_meta']
    assert meta['superclass'] == dict(a='x')
    assert meta['folder'] == 'x'
    assert types_in(meta) <= {dict, tuple, list, str, int}
    assert whole.train_dataloader.dataset.metainfo['folder'] == Path('x')


def test_arguments_by_position(make_runner, distill, tmp_path):
    """In MMEngine's order."""
    runner = make_runner('run', distill)
    runner.train()
    runner.save_checkpoint(str(tmp_path), 'a.pth', None, False)
    runner.save_checkpoint(tmp_path, 'b.pth', None, True, True, dict(note='x'), False)
    assert 'optimizer' not in load(tmp_path / 'a.pth')
    assert load(tmp_path / 'b.pth')['meta']['note'] == 'x'
    assert load(tmp_path / 'b.pth')['meta']['iter'] == runner.iter + 1
