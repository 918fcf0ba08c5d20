"""``PreemptionHook``: a complete checkpoint before a scheduler takes the machine."""
from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Optional, Sequence

import torch
import torch.distributed as torch_dist
from mmengine import dist
from mmengine.dist.utils import get_comm_device
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ..config.checks import read
from ..config.preemption_config import PreemptionConfig
from ..registry import HOOKS
from ..utils.delayed_read import DelayedRead
from ..utils.files import write_whole
from .checkpoint_files import PREEMPTED, remove_partial
from .signals_and_forks import handle_signals, ignore_signals, restore_signals
from .train_loops import ResumableLoop

REQUEUE = 75
"""Exit status: EX_TEMPFAIL of sysexits.h, "the user is invited to retry later"."""
REPEAT_SECONDS = 5.0
"""Time in which further signals belong to the first: Slurm and torchrun each send one to every process."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Ends the training with a checkpoint and exit status 75 when a process receives SIGTERM or SIGUSR1.

    After the current step (with accumulated gradients: after the next one that updates the weights), all processes
    agree, save ``preempted.pth``, name it in ``last_checkpoint``, and exit.
    Start the same command with ``--resume`` to continue; ``tools/slurm_train.sh`` and ``torchrun --max-restarts`` do it
    by themselves. A second signal, more than five seconds after the first, ends a process at once; checkpoints that are
    being written are then removed, and the one before stays the newest.

    On by default in mmsrd's runners; ``preemption=False`` in the ``distill`` block leaves it out, and
    ``preemption=dict(interval=..., signals=...)`` sets it.

    Args:
        interval: Steps between two checks with several processes; 10 by default. Each is an all-reduce of one number;
            with NCCL its result is read at the next one, so no step waits. A single process checks after each step.
        signals: Names of signals; None, the default, for SIGTERM and, where the system has it, SIGUSR1.

    Raises:
        ConfigError: An argument is not acceptable.
    """

    priority = 'LOWEST'  # after checkpoints and averages of this step

    def __init__(self, interval: int = PreemptionConfig.interval, signals: Optional[Sequence[str]] = None) -> None:
        config = read(PreemptionConfig, 'PreemptionHook', dict(interval=interval, signals=signals))
        self.interval = config.interval
        self.signals = [getattr(signal, name) for name in config.signals]
        self._received: tuple[int, float] | None = None
        self._stopping = False
        self._agreement = DelayedRead()
        self._folders: list[Path] = []

    def before_train(self, runner: Runner) -> None:
        """Listen to signals."""
        self._folders = [Path(runner.work_dir)]
        folder = self._checkpoint_arguments(runner)[0]
        if '://' not in folder:
            self._folders.append(Path(folder))
        if not handle_signals(self.signals, self._handle):
            print_log('Signals of the scheduler are not handled: training is not in the main thread', logger='current')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """End the training if the processes agree that one of them has had a signal.

        Raises:
            SystemExit: With status 75, in all processes.
        """
        self._stopping = self._stopping or self._all_agree(runner.iter + 1)
        if self._stopping and _has_updated(runner.optim_wrapper):
            self._save_and_exit(runner)

    def after_train(self, runner: Runner) -> None:
        """Stop listening; remove the checkpoint of an earlier preemption."""
        restore_signals()
        preempted = Path(self._checkpoint_arguments(runner)[0], PREEMPTED)
        pointer = Path(runner.work_dir, 'last_checkpoint')
        if dist.is_main_process() and pointer.is_file() and pointer.read_text().strip() != str(preempted):
            preempted.unlink(missing_ok=True)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number, time.monotonic()
            _write_stderr(f'{signal.Signals(number).name}: saving a checkpoint after this step')
        elif time.monotonic() - self._received[1] > REPEAT_SECONDS:
            _write_stderr(f'{signal.Signals(number).name} again: stopping immediately')
            for folder in self._folders:
                remove_partial(folder)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _all_agree(self, step: int) -> bool:
        if dist.get_world_size() == 1:
            return self._received is not None
        if step % self.interval:
            return False
        previous = self._agreement.take()
        if previous is not None and previous[0][0]:
            return True
        received = torch.full((1,), int(self._received is not None), dtype=torch.int32, device=get_comm_device())
        torch_dist.all_reduce(received, torch_dist.ReduceOp.MAX)
        if self._agreement.put(received, None):
            return False
        now = self._agreement.take()
        return now is not None and bool(now[0][0])

    def _checkpoint_arguments(self, runner: Runner) -> tuple[str, dict[str, Any]]:
        hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if hook is None or hook.out_dir is None:
            return str(runner.work_dir), {}
        return str(hook.out_dir), dict(file_client_args=hook.file_client_args, backend_args=hook.backend_args)

    def _save_and_exit(self, runner: Runner) -> None:
        exact = isinstance(runner.train_loop, ResumableLoop)
        if exact:
            runner.train_loop.preempted = True
            runner.train_loop.gather_states(runner.epoch, runner.iter + 1)
        folder, arguments = self._checkpoint_arguments(runner)
        runner.save_checkpoint(folder, PREEMPTED, by_epoch=False, **arguments)
        path = f'{folder}/{PREEMPTED}' if '://' in folder else str(Path(folder, PREEMPTED))
        if dist.is_main_process():
            write_whole(Path(runner.work_dir, 'last_checkpoint'), path)
        if dist.get_world_size() > 1:
            ignore_signals(self.signals)  # nothing is left to be saved; a launcher sends one when a process has ended
        dist.barrier()  # a launcher kills the others when the first process has ended
        again = '' if exact else '; the epoch then starts again, because exact_resume is off or the loop is custom'
        print_log(f'Preempted after iteration {runner.iter + 1}. Start the same command with --resume to go on from '
                  f'{path}{again}', logger='current')
        raise SystemExit(REQUEUE)


def _has_updated(wrapper: Any) -> bool:
    """Return whether no gradients are accumulated for a later step, which a checkpoint would lose."""
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(one.should_update() for one in wrappers)


def _write_stderr(text: str) -> None:
    write: Callable[[int, bytes], int] = os.write  # print may be interrupted by the signal itself
    write(2, f'mmsrd: {text}\n'.encode())
