"""Small trainings that resume by themselves: started in forked processes, watched, and compared bit for bit.

The training has all that a resume must bring back: projectors, optimizer, EMA, learning-rate schedule, distillation
warm-up, random augmentation in processes that load the data, and one checkpoint kept at a time.
"""
from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from pathlib import Path
from typing import Any, Callable

import torch
from mmengine.config import Config
from tiny import compose_set, tiny_student, tiny_teacher

ITERATIONS, INTERVAL = 20, 1


def prepare(folder: Path) -> None:
    """Data and teacher; and everything imported, so that forked trainings start at once."""
    import mmdet.apis  # noqa: F401
    torch.set_num_threads(1)
    compose_set(folder / 'data')
    tiny_teacher(folder)


def training(folder: Path, work_dir: Path) -> Config:
    """20 iterations with a checkpoint after each; ``folder`` has the data and the teacher."""
    config = tiny_student(folder / 'data')
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=1000)
    config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    config.train_dataloader.update(num_workers=2, persistent_workers=True)
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[-1:-1] = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
    config.param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=ITERATIONS,
                                   T_max=ITERATIONS)]
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=INTERVAL, by_epoch=False, max_keep_ckpts=1)
    config.log_processor.by_epoch = False
    config.custom_hooks = [dict(type='EMAHook', momentum=0.05)]
    config.runner_type = 'mmsrd.DistillRunner'
    config.distill = dict(
        teacher=dict(config=str(folder / 'teacher.py'), checkpoint=str(folder / 'teacher.pth')),
        losses=dict(neck=dict(student='neck', teacher='neck', weight=4.0)), schedule=dict(start=2, warmup=10),
        preemption=dict(interval=2), report=False)
    config.work_dir = str(work_dir)
    config.experiment_name = f'kill-{os.getpid()}'
    config.visualizer.name = config.experiment_name
    return config


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        return int(free.getsockname()[1])


def start(folder: Path, work_dir: Path, processes: int, arm_first: Callable[[], None] | None = None,
          make: Callable[[Path, Path], Config] = training) -> list[int]:
    """Fork the processes of one training that resumes by itself; the parent has imported everything already.

    ``arm_first`` is called in the first process; ``make`` makes the config from the two folders.
    """
    port, children = free_port(), []
    for rank in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            log = os.open(work_dir / f'output.{rank}', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            config = make(folder, work_dir)
            config.resume = True
            if processes > 1:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                                  MASTER_ADDR='localhost', MASTER_PORT=str(port))
                config.launcher = 'pytorch'
            if arm_first is not None and rank == 0:
                arm_first()
            from mmengine.registry import RUNNERS
            RUNNERS.build(config).train()
            code = 0
        except SystemExit as end:
            code = int(str(end.code))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return children


def wait(children: list[int], limit: float | None = None, notice: int | None = None) -> list[int]:
    """Exit codes of all; the rest is killed when the limit is over or one of them has died, as a launcher does it.

    With ``notice``, the number of a process, that one has a signal at the limit instead.
    """
    end = None if limit is None else time.monotonic() + limit
    left, results = set(children), []
    while left:
        for child in list(left):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                left.discard(child)
                results.append(os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status))
        failed = any(results)
        due = end is not None and time.monotonic() > end
        if due and notice is not None and not failed:
            if children[notice] in left:
                os.kill(children[notice], signal.SIGUSR1)
            end = None
        elif left and (failed or due):
            for child in left:
                os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.002)
    return results


def state(work_dir: Path) -> dict[str, Any]:
    """All tensors and numbers of the last checkpoint that must be equal."""
    saved = torch.load(work_dir / f'iter_{ITERATIONS}.pth', map_location='cpu', weights_only=True)
    return {key: saved[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'distiller')}


def equal(a: Any, b: Any) -> bool:
    """Bit for bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


def output(work_dir: Path) -> str:
    """The end of what the first process has printed."""
    path = work_dir / 'output.0'
    return path.read_text()[-2000:] if path.exists() else ''


def left_alone(folder: Path, processes: int = 1) -> dict[str, Any]:
    """The :func:`state` at the end of a training that nothing happens to.

    Raises:
        RuntimeError: It failed.
    """
    if any(wait(start(folder, folder / 'whole', processes))):
        raise RuntimeError(f'the training left alone failed: {output(folder / "whole")}')
    return state(folder / 'whole')


def check_equal(expected: dict[str, Any], work_dir: Path, after: str) -> None:
    """Compare the end of a training with that of the one left alone.

    Raises:
        RuntimeError: They differ.
    """
    actual = state(work_dir)
    for key, value in expected.items():
        if not equal(value, actual[key]):
            raise RuntimeError(f'{key!r} differs from the training left alone, after {after}')
