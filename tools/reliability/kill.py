#!/usr/bin/env python
"""Kill trainings, also while they write checkpoints, resume them, and compare with an uninterrupted one.

The training is small but has all that a resume must bring back: projectors, optimizer,
EMA, learning-rate schedule, distillation warm-up, random augmentation in processes that
load the data, and one checkpoint kept at a time. All kills are SIGKILL, but for those of a
scheduler that gives notice: SIGUSR1 to one of the processes.
"""
from __future__ import annotations

import functools
import os
import random
import re
import shutil
import signal
import socket
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable

import torch
from mmengine.config import Config
from outcome import parser_for, report
from tiny import compose_set, tiny_student, tiny_teacher

from mmsrd.resume.preemption_hook import REQUEUE

ITERATIONS, INTERVAL = 20, 1
MOMENTS = ('at random', 'in the file', 'before the name', 'after the name', 'in the pointer', 'before the next',
           'with notice')


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


def arm(moment: str, save: int) -> None:
    """Let this process kill itself at ``moment`` of checkpoint number ``save`` from now; called in the child only."""
    import mmengine.hooks.checkpoint_hook as hook
    from mmengine.fileio import LocalBackend
    count = 0

    def die_if_due() -> None:
        nonlocal count
        count += 1
        if count > save:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_before(function: Callable[..., Any], only: Callable[..., Any] = lambda *args: True) -> Callable[..., Any]:
        def replacement(*args: Any, **kwargs: Any) -> Any:
            if only(*args):
                die_if_due()
            return function(*args, **kwargs)
        return replacement

    def in_two_parts(backend: Any, content: bytes, path: str) -> None:
        with open(path, 'wb', buffering=0) as file:
            file.write(content[:len(content) // 2])
            die_if_due()
            file.write(content[len(content) // 2:])

    def emptied(path: str, mode: str) -> Any:
        file = open(path, mode)  # noqa: SIM115  to be left open
        die_if_due()
        return file

    if moment == 'in the file':
        LocalBackend.put = in_two_parts
    elif moment == 'before the name':
        os.replace = die_before(os.replace, lambda source, target: re.search(r'iter_\d+\.pth$', str(target)))
    elif moment == 'after the name':
        hook.open = die_before(open)
    elif moment == 'in the pointer':
        hook.open = emptied
    elif moment == 'before the next':  # the only checkpoint has been deleted
        LocalBackend.put = die_before(LocalBackend.put)


def start(folder: Path, work_dir: Path, processes: int, arm_first: Callable[[], None] | None = None,
          make: Callable[[Path, Path], Config] = training) -> list[int]:
    """Fork the processes of one training that resumes by itself; the parent has imported everything already.

    ``arm_first`` is called in the first process; ``make`` makes the config from the two folders.
    """
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    children = []
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
                results.append(os.waitstatus_to_exitcode(status))
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


def pointer_is_broken(work_dir: Path) -> bool:
    """Whether ``last_checkpoint``, MMEngine's own choice, names a file that is missing or cannot be read."""
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        return False  # it starts anew
    try:
        torch.load(pointer.read_text().strip(), map_location='cpu', weights_only=True)
    except Exception:  # whatever reading half a file raises
        return True
    return False


def trial(folder: Path, kills: int, processes: int, seed: int, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Kill and resume until ``kills`` kills are done; each finished training must equal the one left alone."""
    chance = random.Random(seed)
    began = time.monotonic()
    codes = wait(start(folder, folder / 'whole', processes))
    if any(codes):
        raise RuntimeError(f'the training left alone failed: {(folder / "whole" / "output.0").read_text()[-2000:]}')
    duration = time.monotonic() - began
    expected = state(folder / 'whole')
    done: dict[str, Any] = dict(processes=processes, seed=seed, kills=0, trainings=0, moments={}, broken_pointers=0)
    while done['kills'] < kills:
        work_dir = folder / f'killed-{done["trainings"]}'
        while True:
            moment = MOMENTS[done['kills'] % len(MOMENTS)] if done['kills'] < kills else None
            limit = chance.uniform(0.1, 0.8) * duration if moment in ('at random', 'with notice') else None
            notice = chance.randrange(processes) if moment == 'with notice' else None
            save = chance.randrange(5)
            armed = None if moment in (None, 'at random', 'with notice') else functools.partial(arm, moment, save)
            codes = wait(start(folder, work_dir, processes, armed), limit, notice)
            if not any(codes):
                break
            # A signal that comes before the training listens ends it, and it has nothing to save then.
            if not {-signal.SIGKILL, *({REQUEUE, -signal.SIGUSR1} if notice is not None else ())} & set(codes):
                raise RuntimeError(f'a resumed training failed: {(work_dir / "output.0").read_text()[-2000:]}')
            done['kills'] += 1
            done['moments'][moment] = done['moments'].get(moment, 0) + 1
            done['broken_pointers'] += pointer_is_broken(work_dir)
            report(f'kill {done["kills"]}: {moment}')
        actual = state(work_dir)
        for key, value in expected.items():
            if not equal(value, actual[key]):
                raise RuntimeError(f'{key!r} differs from the training left alone, after {done["kills"]} kills')
        done['trainings'] += 1
        report(f'training {done["trainings"]}: equal to the one left alone, bit for bit')
        shutil.rmtree(work_dir)
    return {**done, 'seconds': round(time.monotonic() - began)}


def prepare(folder: Path) -> None:
    """Data and teacher; and everything imported, so that forked trainings start at once."""
    import mmdet.apis  # noqa: F401
    torch.set_num_threads(1)
    compose_set(folder / 'data')
    tiny_teacher(folder)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument('--kills', type=int, default=24)
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    for processes in args.processes:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder))
            report(args, 'kill', trial(Path(folder), args.kills, processes, args.seed))


if __name__ == '__main__':
    main()
