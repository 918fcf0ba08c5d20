#!/usr/bin/env python
"""Let the disk of a training fail while checkpoints are written, resume it, and compare with an uninterrupted one.

After each fault the newest complete checkpoint must still be there, nothing half-written may be picked, and the
training must have gone on or ended with a ``StorageError``. ``disk full`` is a tmpfs that something else fills up,
where this user may mount one; other faults are raised in the place of the system call.
"""
from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import FileClient, LocalBackend, register_backend
from mmengine.runner.checkpoint import CheckpointLoader
from outcome import command
from trainings import check_equal, left_alone, output, prepare, start, training, wait

from mmsrd.compat import load_checkpoint_file
from mmsrd.resume.checkpoint_files import newest_complete

FAULTS = ('disk full', 'no space', 'input/output error', 'read-only', 'stale handle', 'work dir deleted',
          'store fails', 'rename without answer', 'no hard links')
GOES_ON = ('rename without answer', 'no hard links')
"""Faults that a training must not notice."""
STORE = 'store://'
_NUMBERS = {'no space': errno.ENOSPC, 'input/output error': errno.EIO, 'read-only': errno.EROFS,
            'stale handle': errno.ESTALE}


class Store(LocalBackend):
    """A store of objects, which appear with their whole content or not at all; a folder stands for it."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in ('get', 'put', 'exists', 'isfile', 'isdir', 'remove'):
            return value
        return lambda *arguments: value(*(a.replace(STORE, '') if isinstance(a, str) else a for a in arguments))


def arm(fault: str, save: int, part: float, work_dir: Path) -> None:
    """Let checkpoint number ``save`` from now fail in this process; called in the child only."""
    put, replace, count = LocalBackend.put, os.replace, 0

    def failing_put(backend: Any, content: bytes, path: str) -> None:
        nonlocal count
        count += 1
        if count <= save:
            put(backend, content, path)
        elif fault == 'store fails':
            raise ConnectionError('the store does not answer')
        elif fault == 'work dir deleted':
            shutil.rmtree(work_dir)
            put(backend, content, path)
        else:
            with open(path, 'wb', buffering=0) as file:
                file.write(content[:int(len(content) * part)])
            raise OSError(_NUMBERS[fault], os.strerror(_NUMBERS[fault]), str(path))

    def replace_without_answer(source: Any, target: Any) -> None:
        replace(source, target)
        if str(target).endswith('.pth'):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))

    def no_link(source: Any, target: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source))

    if fault == 'rename without answer':
        os.replace = replace_without_answer
    elif fault == 'no hard links':
        os.link = no_link
    else:
        LocalBackend.put = failing_put


def into_store(store: Path, folder: Path, work_dir: Path) -> Config:
    """A training that keeps its checkpoints in the store."""
    config = training(folder, work_dir)
    config.default_hooks.checkpoint.out_dir = f'{STORE}{store}'
    return config


def mount(folder: Path) -> bool:
    """Mount a small tmpfs; whether that is allowed."""
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(work_dir: Path, after: float, children: list[int]) -> list[int]:
    """Exit codes of a training whose disk something else fills up ``after`` so many seconds."""
    ballast = work_dir / 'ballast'
    end = time.monotonic() + 120
    while not (work_dir / 'last_checkpoint').exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(after)
    with open(ballast, 'wb', buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass
    codes = wait(children)
    ballast.unlink()
    return codes


def fault_and_resume(folder: Path, fault: str, number: int, chance: random.Random,
                     expected: dict[str, Any]) -> dict[str, bool]:
    """One training with one fault, and what follows; see the module.

    Raises:
        RuntimeError: The training neither went on nor ended with a message, or it lost its newest checkpoint.
    """
    work_dir, store = folder / f'disk-{number}', folder / f'store-{number}'
    make = functools.partial(into_store, store) if fault == 'store fails' else training
    real = fault == 'disk full' and mount(work_dir)
    armed = functools.partial(arm, 'no space' if fault == 'disk full' else fault, chance.randrange(1, 6),
                              chance.random(), work_dir)
    children = start(folder, work_dir, 1, None if real else armed, make)
    try:
        codes = fill(work_dir, chance.uniform(0, 0.5), children) if real else wait(children)
        text = output(work_dir)
        if fault in GOES_ON and any(codes):
            raise RuntimeError(f'{fault}: the training ended: {text}')
        if fault != 'work dir deleted':
            if any(codes) and 'StorageError' not in text and not real:  # on a full disk the message has no place, too
                raise RuntimeError(f'{fault}: the training ended without a message: {text}')
            newest = newest_complete(work_dir)
            if newest is None:
                raise RuntimeError(f'{fault}: the newest complete checkpoint is lost')
            load_checkpoint_file(newest.replace(STORE, ''), 'resume')
        if any(codes) and any(wait(start(folder, work_dir, 1, None, make))):
            raise RuntimeError(f'{fault}: the resumed training failed: {output(work_dir)}')
        check_equal(expected, store / work_dir.name if fault == 'store fails' else work_dir, fault)
    finally:
        if real:
            subprocess.run(['umount', '-l', str(work_dir)], check=False)
    return dict(went_on=not any(codes), real=real)


def trial(folder: Path, faults: int, seed: int) -> dict[str, Any]:
    """So many faults, of all kinds in turn."""
    register_backend('store', Store, prefixes='store')
    FileClient.register_backend('store', Store, prefixes='store')
    CheckpointLoader.register_scheme('store://', lambda path, map_location: load_checkpoint_file(
        path.replace(STORE, ''), 'resume'))
    prepare(folder)
    chance, expected = random.Random(seed), left_alone(folder)
    done: dict[str, Any] = dict(seed=seed, faults={}, went_on=0, on_a_real_disk=0)
    for number in range(faults):
        fault = FAULTS[number % len(FAULTS)]
        result = fault_and_resume(folder, fault, number, chance, expected)
        done['faults'][fault] = done['faults'].get(fault, 0) + 1
        done['went_on'] += result['went_on']
        done['on_a_real_disk'] += result['real']
        print(f'fault {number + 1}: {fault}; {"went on" if result["went_on"] else "ended and resumed"}, equal to the '
              'training left alone, bit for bit', flush=True)
    return done


if __name__ == '__main__':
    command(__doc__, trial, {'faults': 36, 'seed': 0})
