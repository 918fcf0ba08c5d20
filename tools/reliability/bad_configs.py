#!/usr/bin/env python
"""Change valid ``distill`` blocks at random, thousands of times: each either trains a step or raises a typed error.

An error must be one of mmsrd's own and name a key of the block. A block that is accepted must give the losses that it
names. An unknown key must never be accepted, and nothing may take more than five seconds.
"""
from __future__ import annotations

import collections
import contextlib
import copy
import logging
import math
import time
import warnings
from pathlib import Path
from typing import Any, Iterator

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from outcome import command
from torch import Tensor, nn

import mmsrd
from mmsrd.errors import MMSRDError

LIMIT = 5.0
"""Seconds of processor time that building and one step may take."""
LENGTH = 20_000
"""Characters that a message may have."""
UNKNOWN = 'unkown_kee'


@MODELS.register_module(force=True)
class TinyPyramid(nn.Module):
    """A backbone, two levels and logits; the size of what others do not have to be alike."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, channels, 3)
        self.neck = nn.ModuleList([nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3, 2)])
        self.head = nn.Linear(channels, 5)
        self.counts = nn.Embedding(3, 2)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Losses in mode ``'loss'``, else logits."""
        levels = [layer(self.backbone(inputs)) for layer in self.neck]
        logits = self.head(levels[1].mean((2, 3)))
        return dict(loss=logits.square().mean()) if mode == 'loss' else logits


def valid_blocks(folder: Path) -> list[dict[str, Any]]:
    """Blocks that are right, which between them have every key."""
    weights = folder / 'teacher.pth'
    torch.save(dict(state_dict=TinyPyramid(6).state_dict()), weights)
    teacher = dict(config=dict(model=dict(type='TinyPyramid', channels=6)), checkpoint=str(weights))
    first = dict(type='SRDLoss', student='neck.0', teacher='neck.0', alpha=4.0)
    return [
        dict(teacher=dict(teacher, check=dict(images=4), init_student=False, offload=False,
                          inference=dict(precision='fp32', fold=True)),
             losses=dict(first=dict(first, balance=1.0, resize='to_student', pool=False),
                         second=dict(type='PKDLoss', student='neck.1', teacher='neck.1', weight=0.5)),
             schedule=dict(start=0, end=9, warmup=0, by_epoch=False, decay='cosine'), report=dict(images=2),
             exact_resume=True, preemption=dict(interval=3, signals=['SIGTERM'])),
        dict(teacher=dict(ema=dict(momentum=0.1)),
             losses=dict(level=dict(student='neck.0', teacher='neck.0', weight=1.0, levels=[0], tokens='all',
                                    projector=dict(type='MLPProjector')))),
        dict(teachers=dict(big=dict(teacher), own=dict(ema=dict(momentum=0.5))),
             losses=dict(a=dict(type='FeatureMSELoss', student='backbone', teacher='backbone', from_teacher='big'),
                         b=dict(type='KLDivLoss', student='head', teacher='head', from_teacher='own', temperature=2.0),
                         c=dict(first, form='correlation', from_teacher='big', reduction='sum', sync=False))),
    ]


NUMBERS = st.sampled_from([0, 1, -1, 2, 10**6, 10**18, -2**63, 2**64, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308,
                           math.nan, math.inf, -math.inf, 3 + 4j])
"""Tiny and huge ones, and some that are none."""
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from([
    '', ' ', '.', '..', 'neck', 'neck.0', 'neck.9', 'head', 'counts', 'backbone', 'losses', 'teacher', 'a' * 5000, '\0',
    'SRDLoss', 'Conv2d', 'nie.da', '../../etc/passwd', 'mmdet::no/such.py', 'auto', 'https://', '${x}', 'ñ\u202e😀',
    '__class__', 'forward', 'LinearProjector']))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=4), st.just(object()), st.just(dict),
              st.just(torch.ones(2))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner),
                            st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5)


def places(block: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all entries in nested dicts and lists, but for what a teacher's own model is given."""
    items = block.items() if isinstance(block, dict) else enumerate(block) if isinstance(block, list) else ()
    for key, value in items:
        yield (*path, key)
        if key != 'model':
            yield from places(value, (*path, key))


@st.composite
def changes(draw: st.DrawFn, blocks: list[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """A valid block with one to three changes, and whether one of them is a key that cannot be known."""
    block = copy.deepcopy(draw(st.sampled_from(blocks)))
    unknown = False
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(block), key=repr) or [()]))
        if not path:
            break
        target = block
        for key in path[:-1]:
            target = target[key]
        change = draw(st.sampled_from(['value', 'number', 'number', 'text', 'delete', 'rename', 'insert', 'nest',
                                       'copy']))
        last: Any = path[-1]
        if change == 'value':
            target[last] = draw(VALUES)
        elif change == 'number':
            target[last] = draw(st.one_of(NUMBERS, st.integers(), st.floats()))
        elif change == 'text':
            target[last] = draw(TEXTS)
        elif change == 'delete':
            del target[last]
        elif change == 'nest':
            target[last] = draw(st.sampled_from([[target[last]], dict(type=target[last]), {last: target[last]}]))
        elif change == 'copy':
            other = draw(st.sampled_from(sorted(places(block), key=repr)))
            value = block
            for key in other:
                value = value[key]
            target[last] = copy.deepcopy(value)
        elif isinstance(target, dict):
            if change == 'rename':
                target[draw(st.one_of(TEXTS, NUMBERS, st.just(f'{last}s')))] = target.pop(last)
            else:
                target[UNKNOWN] = draw(VALUES)
    for path in places(block):  # what a teacher's own config may hold is not the block's to know
        unknown |= path[-1] == UNKNOWN and 'config' not in path
    return block, unknown


def outcome(block: dict[str, Any]) -> str:
    """Return what became of a block: ``'trained'`` or the name of the error.

    Raises:
        AssertionError: It was neither accepted nor refused as it should be.
    """
    torch.manual_seed(0)
    model = TinyPyramid()
    given_block = copy.deepcopy(block)
    try:
        distiller = mmsrd.attach(model, block)
        losses = model(torch.rand(2, 3, 8, 8), mode='loss')
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        distiller.update_balances()
        distiller.finite.flush()
    except MMSRDError as error:
        name, message = type(error).__name__, str(error)
    else:
        name = message = ''
    if name:
        assert 'distill' in message, f'names no key of the block: {name}: {message}'
        assert len(message) < LENGTH, f'{len(message)} characters'
        return name
    if distiller.progress.active:
        logged = [key for key in losses if key.startswith('loss_')]
        names = given_block.get('losses') or {}
        missing = [name for name in names if not any(key.endswith(f'_{name}') for key in logged)]
        assert not missing, f'accepted without effect: {missing}'
    return 'trained'


def trial(folder: Path, count: int, start: int = 0) -> collections.Counter[str]:
    """``count`` changed blocks; how often each outcome came.

    Raises:
        AssertionError: One did not do what it must; hypothesis prints the smallest that it finds.
    """
    blocks = valid_blocks(folder)
    by_preset = {key: value for key, value in blocks[0].items() if key != 'losses'}
    with contextlib.suppress(MMSRDError):  # imports a toolbox, which takes seconds once
        mmsrd.attach(TinyPyramid(), by_preset)
    for block in blocks:
        assert outcome(copy.deepcopy(block)) == 'trained'
    counts: collections.Counter[str] = collections.Counter()

    @seed(start)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate, Phase.shrink], print_blob=False)
    @given(changes(blocks))
    def check(changed: tuple[dict[str, Any], bool]) -> None:
        block, unknown = changed
        started = time.process_time()
        result = outcome(block)
        seconds = time.process_time() - started
        assert seconds < LIMIT, f'{seconds:.1f} s'
        assert not (unknown and result == 'trained'), 'an unknown key was accepted'
        counts[result] += 1

    check()
    return counts


def run(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """The trial, without what mmsrd and MMEngine say to each block."""
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    warnings.simplefilter('ignore')
    return dict(count=count, seed=seed, outcomes=dict(trial(folder, count, seed).most_common()))


if __name__ == '__main__':
    command(__doc__, run, {'count': 10_000, 'seed': 0})
