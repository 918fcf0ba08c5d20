#!/usr/bin/env python
"""Kill trainings, also while they write checkpoints, resume them, and compare with an uninterrupted one.

All kills are SIGKILL, but for those of a scheduler that gives notice: SIGUSR1 to one of the processes.
"""
from __future__ import annotations

import functools
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Callable

import torch
from outcome import command
from trainings import check_equal, left_alone, output, prepare, start, wait
from trainings import equal as equal

from mmsrd.resume.preemption_hook import REQUEUE

MOMENTS = ('at random', 'in the file', 'before the name', 'after the name', 'in the pointer', 'before the next',
           'with notice')


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


def pointer_is_broken(work_dir: Path) -> bool:
    """Return whether ``last_checkpoint``, MMEngine's own choice, names a file that is missing or cannot be read."""
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        return False  # it starts anew
    try:
        torch.load(pointer.read_text().strip(), map_location='cpu', weights_only=True)
    except Exception:  # whatever reading half a file raises
        return True
    return False


def trial(folder: Path, kills: int, processes: int, seed: int) -> dict[str, Any]:
    """Kill and resume until ``kills`` kills are done; each finished training must equal the one left alone."""
    prepare(folder)
    chance, started = random.Random(seed), time.monotonic()
    expected = left_alone(folder, processes)
    duration = time.monotonic() - started
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
                raise RuntimeError(f'a resumed training failed: {output(work_dir)}')
            done['kills'] += 1
            done['moments'][moment] = done['moments'].get(moment, 0) + 1
            done['broken_pointers'] += pointer_is_broken(work_dir)
            print(f'kill {done["kills"]}: {moment}')
        check_equal(expected, work_dir, f'{done["kills"]} kills')
        done['trainings'] += 1
        print(f'training {done["trainings"]}: equal to the one left alone, bit for bit')
        shutil.rmtree(work_dir)
    return done


if __name__ == '__main__':
    command(__doc__, trial, {'kills': 24, 'processes': [1, 2], 'seed': 0})
