"""Long runs without distillation, and distillation without long runs: each mixin works by itself."""
from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.weights import load, same
from mmengine.registry import LOOPS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

import mmsrd
from mmsrd.errors import CheckpointError
from mmsrd.resume import ExactResumeHook, resume_mixin


class TheirRunner(Runner):
    """A runner of a user, which counts something."""

    batches = 0

    def call_hook(self, fn_name, **kwargs):
        self.batches += fn_name == 'after_train_iter'
        super().call_hook(fn_name, **kwargs)


@RUNNERS.register_module(force=True)
class TheirDistillRunner(mmsrd.DistillMixin, TheirRunner):
    """With distillation alone."""


@RUNNERS.register_module(force=True)
class TheirLongRunner(mmsrd.ResumeMixin, TheirRunner):
    """With resumes alone."""


@RUNNERS.register_module(force=True)
class TheirWholeRunner(mmsrd.ResumeMixin, mmsrd.DistillMixin, TheirRunner):
    """With both."""


def own(make_runner, name, kind, distill=None, **overrides):
    return make_runner(name, distill, runner_type=kind, **overrides)


@LOOPS.register_module(force=True)
class TheirLoop(EpochBasedTrainLoop):
    """A loop of a user."""


@pytest.mark.parametrize('kind', ['TheirLoop', EpochBasedTrainLoop])
def test_a_loop_of_a_user_is_told_of(make_runner, kind):
    runner = own(make_runner, 'run', 'TheirLongRunner', train_cfg=dict(_delete_=True, type=kind, max_epochs=1))
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert ('The train loop TheirLoop is not one of the two that resume exactly' in log) == (kind == 'TheirLoop')


@pytest.mark.parametrize('kind', ['TheirDistillRunner', 'TheirWholeRunner'])
def test_a_runner_of_a_user_distils(make_runner, distill, tmp_path, kind):
    """To the weights that ours gives, and it resumes; which begins an epoch again without the other mixin."""
    make_runner('ours', distill).train()
    runner = own(make_runner, 'theirs', kind, distill)
    runner.train()
    assert runner.batches == 8
    assert type(runner).__name__ == kind
    ours, theirs = (load(tmp_path / name / 'epoch_2.pth') for name in ('ours', 'theirs'))
    assert same(ours['state_dict'], theirs['state_dict'])
    assert same(ours['distiller']['state_dict'], theirs['distiller']['state_dict'])
    has_hook = any(isinstance(hook, ExactResumeHook) for hook in runner.hooks)
    assert has_hook == (kind == 'TheirWholeRunner')
    assert type(runner.train_loop).__name__.startswith('Resumable') == has_hook
    again = own(make_runner, 'again', kind, distill, resume=True, load_from=str(tmp_path / 'theirs/epoch_1.pth'))
    again.train()
    assert same(again.model.state_dict(), theirs['state_dict'])  # there is nothing random in an epoch of this fixture


FLIPS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
         dict(type='RandomFlip', prob=0.5),
         dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'flip'))]


def test_a_runner_that_does_not_distil_resumes_exactly(make_runner, tmp_path):
    """In the middle of an epoch, with random augmentation; its checkpoint knows nothing of distillation."""
    options = {'train_dataloader.dataset.pipeline': copy.deepcopy(FLIPS), 'default_hooks.checkpoint': dict(
        type='CheckpointHook', interval=3, by_epoch=False)}
    whole = own(make_runner, 'whole', 'TheirLongRunner', **options)
    whole.train()
    checkpoint = load(tmp_path / 'whole' / 'iter_3.pth')
    assert 'distiller' not in checkpoint
    assert checkpoint['resume']['batches'] == 3
    resumed = own(make_runner, 'resumed', 'TheirLongRunner', **options, resume=True,
                  load_from=str(tmp_path / 'whole' / 'iter_3.pth'))
    resumed.train()
    assert resumed.batches == 5
    assert same(whole.model.state_dict(), resumed.model.state_dict())


@pytest.mark.parametrize('shuffle', [False, True])
def test_what_cannot_be_resumed_exactly_is_said_at_the_start(make_runner, tmp_path, shuffle):
    runner = own(make_runner, 'run', 'TheirLongRunner')
    loader = runner.train_loop.dataloader
    runner.train_loop.__class__(runner, DataLoader(loader.dataset, batch_size=2, shuffle=shuffle,
                                                   collate_fn=loader.collate_fn), max_epochs=2)
    log, = (tmp_path / 'run').rglob('*.log')
    assert ('cannot be resumed at the same batch, because its sampler draws' in log.read_text()) == shuffle


def test_the_room_knows_nothing_of_distillation():
    """Nothing of it is imported."""
    code = ('import sys, mmsrd.resume\n'
            'rooms = {name.split(".")[1] for name in sys.modules if name.startswith("mmsrd.")}\n'
            'assert not rooms & {"distillers", "teachers", "models", "engine", "recorders", "report", "ops"}, rooms\n')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_processes_that_find_different_checkpoints(make_runner, monkeypatch):
    """A folder that is not shared, or a file system that shows an old state: they would train different weights."""
    runner = own(make_runner, 'run', 'TheirLongRunner', resume=True)
    monkeypatch.setattr(resume_mixin, 'all_gather_object', lambda own: [own, (True, 1, 4)])
    with pytest.raises(CheckpointError, match='checkpoints: process 0 anew, process 1 at iteration 4. Is .*run'):
        runner.train()
