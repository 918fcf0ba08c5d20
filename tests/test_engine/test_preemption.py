"""A training that a scheduler ends saves a checkpoint at the next step, and goes on from it as if nothing had been."""
from __future__ import annotations

import os
import signal

import pytest
from helpers.weights import load, same
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import mmsrd.engine.hooks.preemption_hook as preemption
from mmsrd.engine.checkpoint_files import PREEMPTED


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends signals to this process at an iteration, or in the validation before it."""

    def __init__(self, at, names=('SIGTERM',), validation=False):
        self.at, self.names, self.validation = at, names, validation

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at and not self.validation:
            for name in self.names:
                os.kill(os.getpid(), getattr(signal, name))

    def before_val(self, runner):
        if runner.iter == self.at and self.validation:
            os.kill(os.getpid(), signal.SIGUSR1)


FLIPS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
         dict(type='RandomFlip', prob=0.5),
         dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'flip'))]  # no resizing
OPTIONS = {'train_dataloader.dataset.pipeline': FLIPS, 'train_cfg.val_interval': 1}
BY_ITERATIONS = {**OPTIONS, 'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=8, val_interval=4),
                 'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True),
                 'default_hooks.checkpoint': dict(type='CheckpointHook', interval=3, by_epoch=False),
                 'log_processor.by_epoch': False}


@pytest.mark.parametrize(('at', 'extra', 'options'), [
    (1, {}, OPTIONS), (3, dict(names=['SIGUSR1', 'SIGTERM', 'SIGTERM']), OPTIONS), (4, dict(validation=True), OPTIONS),
    (3, {}, BY_ITERATIONS), (5, {}, BY_ITERATIONS),
], ids=['in an epoch', 'last of an epoch, twice', 'in a validation', 'before a validation', 'by iterations'])
def test_preempted_and_resumed(make_runner, distill, tmp_path, capfd, at, extra, options):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    whole = make_runner('whole', distill, **options)
    whole.train()
    with pytest.raises(SystemExit) as ended:
        make_runner('run', distill, custom_hooks=[dict(type='SignalHook', at=at, **extra)], **options).train()
    assert ended.value.code == 75
    assert capfd.readouterr().err.count('saving a checkpoint after this step') == 1
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    folder = tmp_path / 'run'
    assert (folder / 'last_checkpoint').read_text() == str(folder / PREEMPTED)
    assert load(folder / PREEMPTED)['meta']['iter'] == at + 1
    resumed = make_runner('run', distill, resume=True, **options)
    resumed.train()
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert not (folder / PREEMPTED).exists()
    assert resumed.iter == 8


def test_a_second_signal_ends_at_once(make_runner, distill, tmp_path, monkeypatch):
    """In a child, as it dies."""
    monkeypatch.setattr(preemption, 'SAME_NOTICE', -1.0)
    hook = dict(type='SignalHook', at=1, names=['SIGUSR1', 'SIGTERM'])
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'epoch_9.pth.partial').write_bytes(b'half')
    child = os.fork()
    if not child:
        try:
            make_runner('run', distill, custom_hooks=[hook]).train()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not list((tmp_path / 'run').glob('*.partial'))


def test_turned_off(make_runner, distill, tmp_path):
    runner = make_runner('run', {**distill, 'preemption': False, 'exact_resume': False})
    assert not any(isinstance(hook, preemption.PreemptionHook) for hook in runner.hooks)
    runner.train()
    assert type(runner.train_loop).__name__ == 'EpochBasedTrainLoop'
    assert 'resume' not in load(tmp_path / 'run' / 'epoch_2.pth')['distiller']
