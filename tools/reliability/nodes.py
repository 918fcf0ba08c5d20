#!/usr/bin/env python
"""Lose a machine of a training on two, and bring it back: it must end like an uninterrupted one.

Two launchers of ``tools/dist_train.sh`` on this machine stand for two nodes, each with processes of its own
that talk through gloo. A lost node is a launcher killed with SIGKILL together with its processes. The node that
is lost is the second one: the first holds the store in which launchers meet, as ``MASTER_ADDR`` does anywhere.
"""
from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from outcome import command
from tiny import ROOT
from trainings import ITERATIONS, check_equal, free_port, prepare, state, training

LAST = ITERATIONS - 2
"""No loss from here on: a training that ends meanwhile has nothing that a lost node could join again."""


class Node:
    """A launcher and its processes, in a session of their own."""

    def __init__(self, config: Path, processes: int, port: int, restarts: int, log: Path) -> None:
        environment = dict(os.environ, NNODES='2', MASTER_ADDR='localhost', PORT=str(port), OMP_NUM_THREADS='1',
                           MAX_RESTARTS=str(restarts), PYTHON=sys.executable)
        self.log = log
        with log.open('a') as output:
            self.launcher = subprocess.Popen(
                ['bash', str(ROOT / 'tools/dist_train.sh'), str(config), str(processes)], env=environment,
                stdout=output, stderr=output, start_new_session=True)

    def lose(self) -> None:
        """Kill the launcher and all processes below it, as when the power fails."""
        for process in family(self.launcher.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.launcher.wait()


def family(process: int) -> list[int]:
    """A process and those below it, by number. torchrun gives each of its processes a session of its own."""
    children: dict[int, list[int]] = {}
    for folder in Path('/proc').iterdir():
        with contextlib.suppress(OSError):  # it has ended
            if folder.name.isdigit():
                parent = (folder / 'stat').read_text().rpartition(')')[2].split()[1]
                children.setdefault(int(parent), []).append(int(folder.name))
    found = [process]
    for member in found:
        found += children.get(member, [])
    return found


def newest(work_dir: Path) -> int:
    """Iteration of the newest checkpoint."""
    numbers = [int(path.stem[5:]) for path in work_dir.glob('iter_*.pth')]
    return max(numbers, default=0)


def _await_store(node: Node, port: int) -> None:
    for _ in range(600):
        if node.launcher.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(('localhost', port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f'the first launcher does not open its store: {node.log.read_text()[-3000:]}')


def run(folder: Path, name: str, processes: int, losses: list[int], timeout: float = 900) -> int:
    """Train on two nodes with so many processes each; how many losses there were.

    The second node is lost and comes back when a checkpoint of one of the iterations ``losses`` is there; losses that
    would come after the last steps are left out. Without a new checkpoint for ``timeout`` seconds it has failed.
    """
    work_dir = folder / name
    config = training(folder, work_dir)
    config.launcher = 'pytorch'
    # Otherwise DistributedDataParallel arranges its buckets anew after its first step, so that the order in which the
    # gradients of three or more processes are added, and with it their rounding, depends on where it was started.
    config.find_unused_parameters = True
    file = folder / f'{name}.py'
    config.dump(str(file))
    port, done = free_port(), 0
    # A node is lost again only after it has trained (one more checkpoint may have been under way): torchrun gives up
    # when a node is lost while the nodes meet.
    lost_at = -1

    def start(number: int) -> Node:
        return Node(file, processes, port, len(losses), folder / f'{name}-node{number}.log')

    nodes = [start(0)]
    _await_store(nodes[0], port)  # on one machine the launcher that comes first holds it
    nodes.append(start(1))
    try:
        last, at = 0, time.monotonic()
        while any(node.launcher.poll() is None for node in nodes):
            seen = newest(work_dir)
            if seen != last:
                last, at = seen, time.monotonic()
            if losses[done:] and losses[done] <= seen < LAST and seen > lost_at + 1:
                nodes[1].lose()
                done, lost_at = done + 1, newest(work_dir)
                nodes[1] = start(1)
                at = time.monotonic()
            if time.monotonic() - at > timeout:
                raise RuntimeError(f'no new checkpoint for {timeout:g} s; see {folder}')
            time.sleep(0.05)
        codes = [node.launcher.returncode for node in nodes]
        if any(codes):
            raise RuntimeError(f'the launchers ended with {codes}: {nodes[0].log.read_text()[-3000:]}')
    finally:
        for node in nodes:
            if node.launcher.poll() is None:
                node.lose()
    return done


def trial(folder: Path, losses: int, processes: int, seed: int) -> dict[str, Any]:
    """Trainings on two nodes of ``processes`` each, with up to four losses each, until ``losses`` are done."""
    prepare(folder)
    chance = random.Random(seed)
    run(folder, 'whole', processes, [])
    expected = state(folder / 'whole')
    done: dict[str, Any] = dict(nodes=2, processes=2 * processes, seed=seed, losses=0, trainings=0)
    while done['losses'] < losses:
        count = min(4, losses - done['losses'])
        moments = sorted(chance.sample(range(1, ITERATIONS - 2, 3), count))
        name = f'lost-{done["trainings"]}'
        done['losses'] += run(folder, name, processes, moments)
        check_equal(expected, folder / name, f'losses at {moments}')
        done['trainings'] += 1
        print(f"training {done['trainings']}: {done['losses']} losses so far, after {moments} iterations; equal to one "
              'left alone, bit for bit', flush=True)
    return done


if __name__ == '__main__':
    command(__doc__, trial, {'losses': 10, 'processes': 2, 'seed': 0})
