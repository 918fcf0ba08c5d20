"""A training that a scheduler ends saves a checkpoint at the next step, and goes on from it as if nothing had been."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time

import pytest
from helpers.weights import load, same
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import mmsrd.resume.preemption_hook as preemption
from mmsrd.errors import ConfigError, ConfigTypeError
from mmsrd.resume.checkpoint_files import PREEMPTED
from mmsrd.resume.signals_and_forks import handle_signals, restore_signals


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends signals to this process at an iteration, or in the validation before it."""

    def __init__(self, at, names=('SIGTERM',), validation=False, workers=False):
        self.at, self.names, self.validation, self.workers = at, names, validation, workers

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at and not self.validation:
            workers = [process.pid for process in multiprocessing.active_children()] if self.workers else []
            assert bool(workers) == self.workers
            for name in self.names:
                for process in (*workers, os.getpid()):
                    os.kill(process, getattr(signal, name))

    def before_val(self, runner):
        if runner.iter == self.at and self.validation:
            os.kill(os.getpid(), signal.SIGUSR1)


@contextlib.contextmanager
def at_most(seconds):
    """Fail where the block hangs."""
    def end(number, frame):
        raise TimeoutError(f'{seconds} seconds')

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_that_comes_while_a_process_begins():
    """It ends the process, too; half of them have not begun by then."""
    handle_signals([signal.SIGTERM], lambda *_: None)
    try:
        for _ in range(200):
            child = os.fork()
            if not child:
                time.sleep(20)
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status)
    finally:
        restore_signals()


@HOOKS.register_module(force=True)
class PoolHook(Hook):
    """Starts processes in a validation, by two ways, and ends them."""

    def __init__(self):
        self.ended = []

    def before_val(self, runner):
        with multiprocessing.get_context('fork').Pool(2) as pool:
            pool.map(abs, range(4))
        child = os.fork()
        if not child:
            while True:
                time.sleep(1)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        self.ended.append(-os.WTERMSIG(status))


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
    monkeypatch.setattr(preemption, 'REPEAT_SECONDS', -1.0)
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


def test_processes_that_the_training_starts_end_with_a_signal(make_runner, distill):
    """As without mmsrd; ``multiprocessing.Pool`` waits for its own."""
    runner = make_runner('run', distill, custom_hooks=[dict(type='PoolHook')])
    with at_most(120):  # it would hang for good
        runner.train()
    assert runner.iter == 8
    assert {status for hook in runner.hooks if isinstance(hook, PoolHook) for status in hook.ended} == {-signal.SIGTERM}


def test_voc_metric(make_runner, distill):
    """It evaluates in a pool of processes, which it ends with SIGTERM."""
    loading = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)),
               dict(type='LoadAnnotations', with_bbox=True),
               dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
    runner = make_runner('run', distill, val_evaluator=dict(_delete_=True, type='VOCMetric', metric='mAP'),
                         **{'val_dataloader.dataset.pipeline': loading, 'train_cfg.max_epochs': 1})
    with at_most(120):
        runner.train()
        assert 'pascal_voc/mAP' in runner.val_loop.run()


def test_preempted_between_two_updates(make_runner, distill, tmp_path):
    """Gradients that are accumulated would be lost, so the training goes on until they are used."""
    options = {**OPTIONS, 'optim_wrapper.accumulative_counts': 3, 'train_cfg.max_epochs': 3}
    whole = make_runner('whole', distill, **options)
    whole.train()
    with pytest.raises(SystemExit) as ended:
        make_runner('run', distill, custom_hooks=[dict(type='SignalHook', at=3)], **options).train()
    assert ended.value.code == 75
    assert load(tmp_path / 'run' / PREEMPTED)['meta']['iter'] == 6
    resumed = make_runner('run', distill, resume=True, **options)
    resumed.train()
    assert same(whole.model.state_dict(), resumed.model.state_dict())


@pytest.mark.parametrize(('arguments', 'kind', 'message'), [
    (dict(interval=0), ConfigError, 'PreemptionHook.interval = 0: must be a whole number of at least 1'),
    (dict(interval='often'), ConfigTypeError, "PreemptionHook.interval = 'often'"),
    (dict(signals=['SIGFOO']), ConfigError, "PreemptionHook.signals = 'SIGFOO': is not a signal that can be handled"),
    (dict(signals='SIGTERM'), ConfigTypeError, "PreemptionHook.signals = 'SIGTERM': must be a list"),
    (dict(signals=['SIGKILL']), ConfigError, "PreemptionHook.signals = 'SIGKILL'")])
def test_mistakes_in_a_hook_of_the_config(make_runner, distill, arguments, kind, message):
    with pytest.raises(kind, match=message):
        make_runner('run', distill, custom_hooks=[dict(type='mmsrd.PreemptionHook', **arguments)])


def test_a_system_without_sigusr1(make_runner, distill, monkeypatch):
    """Windows has neither that signal nor fork."""
    monkeypatch.delattr(signal, 'SIGUSR1')
    runner = make_runner('run', distill, **{'train_cfg.max_epochs': 1, 'train_dataloader.num_workers': 1})
    assert [hook.signals for hook in runner.hooks if isinstance(hook, preemption.PreemptionHook)] == [[signal.SIGTERM]]
    runner.train()
    assert runner.iter == 4
    with pytest.raises(ConfigError, match="distill.preemption.signals = 'SIGUSR1': is not a signal that can be"):
        make_runner('other', {**distill, 'preemption': dict(signals=['SIGUSR1'])})


def test_workers_outlive_the_signals_that_the_training_handles(make_runner, distill):
    """Whatever they are; the training saves although its workers have had one, too."""
    hook = dict(type='SignalHook', at=2, names=['SIGUSR2'], workers=True)
    runner = make_runner('run', {**distill, 'preemption': dict(signals=['SIGUSR2'])}, custom_hooks=[hook],
                         **{**OPTIONS, 'train_dataloader.num_workers': 2})
    with pytest.raises(SystemExit) as ended:
        runner.train()
    assert ended.value.code == 75
