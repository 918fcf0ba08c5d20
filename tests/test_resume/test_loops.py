"""What train loops can and cannot resume exactly, and the processes that load their data."""
from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch
from helpers.processes import python
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mmsrd.resume.resume_state import ResumeState, WorkerStates, about_as_far, unsupported
from mmsrd.resume.signals_and_forks import outlive_signals
from mmsrd.resume.train_loops import ResumableEpochLoop, resumable, skip_batches
from mmsrd.utils.random_state import random_state, set_random_state


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(8))


class Noise(torch.utils.data.Dataset):
    """Indices with a random number."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()).item()])


DATA = TensorDataset(torch.arange(8))


@pytest.mark.parametrize(('loader', 'reason'), [
    (DataLoader(DATA, batch_size=2), ''),
    (DataLoader(DATA, batch_size=2, shuffle=True, generator=torch.Generator()), ''),
    (DataLoader(DATA, batch_size=2, shuffle=True), 'draws from the random numbers'),
    (DataLoader(DATA, batch_size=None), 'no batches'),
    (DataLoader(Endless(), batch_size=2), 'without indices'),
])
def test_unsupported(loader, reason):
    assert reason in unsupported(loader)
    assert bool(unsupported(loader)) == bool(reason)


@pytest.mark.parametrize(('batches', 'sizes', 'length', 'now', 'expected'), [
    (6, [2, 2], 25, 4, 6), (6, [2], 50, 4, 3), (9, [2, 2], 25, 1, 36), (9, [40], 10, 4, 24), (30, [4], 25, 2, 60),
    (3, [None], 10, 2, 3)])
def test_about_as_far(batches, sizes, length, now, expected):
    """By images of all processes; a finite pass has at least a batch left, and an infinite one no end."""
    processes = [dict(batch_size=size, length=length) for size in sizes]
    state = ResumeState(0, batches, processes, False, False, False)
    assert about_as_far(state, DataLoader(TensorDataset(torch.arange(100)), batch_size=now)) == expected


@pytest.mark.parametrize('persistent', [False, True])
@pytest.mark.parametrize('taken', [1, 4, 5])
def test_a_pass_goes_on_with_the_numbers_of_its_workers(persistent, taken):
    def make():
        loader = DataLoader(Noise(), batch_size=2, num_workers=2, persistent_workers=persistent,
                            worker_init_fn=torch.manual_seed)
        return loader, WorkerStates(loader)

    loader, states = make()
    states.start_pass(None)
    whole, saved = [], None
    for index, batch in enumerate(loader):
        whole.append(batch)
        states.count_batch(index)
        if index + 1 == taken:
            saved = states.states()
    resumed, others = make()
    others.start_pass(saved)
    empty = skip_batches(resumed, taken)
    rest = list(resumed)
    assert rest[:empty] == [None] * empty
    assert torch.equal(torch.stack(whole[taken:]), torch.stack(rest[empty:]))
    assert len(resumed) == 6
    assert len(list(resumed)) == 6  # only the first pass is shorter


def test_random_states_survive_a_file(tmp_path):
    torch.save(random_state(), tmp_path / 'state.pth')
    first = torch.rand(3)
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize('kind', ['EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop',
                                  'mmengine.runner.EpochBasedTrainLoop', EpochBasedTrainLoop, None])
def test_loops_that_are_replaced(kind):
    loop = dict(max_epochs=3, **(dict(by_epoch=True) if kind is None else dict(type=kind)))
    assert resumable(loop) == dict(max_epochs=3, type=ResumableEpochLoop)
    assert resumable(dict(type='mine.EpochBasedTrainLoop')) == dict(type='mine.EpochBasedTrainLoop')


def test_workers_outlive_a_signal():
    loader = DataLoader(Noise(), batch_size=1, num_workers=1)
    outlive_signals(loader, (signal.SIGTERM, signal.SIGUSR1))
    batches = iter(loader)
    next(batches)
    worker, = multiprocessing.active_children()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        os.kill(worker.pid, number)
    time.sleep(0.2)
    assert len(list(batches)) == 11


def test_workers_end_with_their_process():
    """Which does not wait for them at its end."""
    code = ('import torch; from torch.utils.data import DataLoader, TensorDataset; import mmsrd\n'
            'from mmsrd.resume.signals_and_forks import outlive_signals\n'
            'loader = DataLoader(TensorDataset(torch.arange(8)), num_workers=2, persistent_workers=True)\n'
            'outlive_signals(loader, (15,))\n'
            'batches = iter(loader)\n'
            'next(batches)\n'
            'loader._iterator.__class__.__del__ = lambda self: None  # as where something else still holds it\n')
    python('-c', code, timeout=60)
