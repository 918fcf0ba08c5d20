"""How a training of a study is started: on this machine with one or several GPUs, or under Slurm."""
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
GPUS_PER_NODE = 8


@dataclass(frozen=True)
class Launcher:
    """Starts trainings."""

    processes: int = 1  # processes of each training, each with a GPU where there are some
    partition: str = ''  # partition of Slurm; empty to start on this machine
    resumes: bool = False  # whether a training goes on from the last checkpoint in its work directory

    def train(self, config: str, folder: Path, options: Sequence[str], environment: Mapping[str, str],
              held: Sequence[int] = ()) -> tuple[bool, float]:
        """Train until the end; what is printed goes to ``train.log`` in ``folder``, the work directory.

        The training keeps the file descriptors ``held`` open, so that a lock lives as long as it does. Returns whether
        it went on from a checkpoint, and the processor seconds of all its processes on this machine.

        Raises:
            subprocess.CalledProcessError: The training failed.
            ValueError: There is a checkpoint of another training in the folder.
        """
        command, more = self.command(config, folder)
        resumed = self.resumes and self._is_begun(config, folder, options)
        with open(folder / 'train.log', 'a' if resumed else 'w') as log:
            seconds = run([*command, *(['--resume'] if resumed else []), '--cfg-options', *options], cwd=ROOT,
                          stdout=log, stderr=subprocess.STDOUT, env={**environment, **more}, pass_fds=held)
        return resumed, seconds

    def _is_begun(self, config: str, folder: Path, options: Sequence[str]) -> bool:
        """Return whether the folder has a checkpoint of this training; notes there which one it is."""
        note, this = folder / 'training.json', json.dumps([config, *options])
        begun = (folder / 'last_checkpoint').is_file()
        if begun and not (note.is_file() and note.read_text() == this):
            raise ValueError(f'{folder} has a checkpoint of a training with other options; move the folder away, or '
                             'choose another --work-dir')
        note.write_text(this)
        return begun

    def command(self, config: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Command line without ``--resume`` and ``--cfg-options``, and what it needs in the environment."""
        variables = {'PYTHON': sys.executable}
        if self.partition:
            per_node = os.environ.get('GPUS_PER_NODE', min(self.processes, GPUS_PER_NODE))
            # Several trainings may share a node: each has a port of its own.
            port = 20_000 + zlib.crc32(str(folder).encode()) % 10_000
            variables.update(GPUS=str(self.processes), GPUS_PER_NODE=str(per_node), MASTER_PORT=str(port),
                             REQUEUE='0')  # to wait until it is over: a study reads what it has logged then
            name = '-'.join(folder.parts[-3:]).replace(' ', '_')
            return ['bash', 'tools/slurm_train.sh', self.partition, name, config, str(folder)], variables
        if self.processes > 1:
            variables['PORT'] = str(_free_port())
            return ['bash', 'tools/dist_train.sh', config, str(self.processes), '--work-dir', str(folder)], variables
        return [sys.executable, 'tools/train.py', config, '--work-dir', str(folder)], variables


ONE_PROCESS = Launcher()


def run(command: Sequence[str], **options: Any) -> float:
    """Run a command; processor seconds of it and of the processes below it that it has waited for.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)  # of this child alone, whatever else runs at the time
    process.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return round(usage.ru_utime + usage.ru_stime, 1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return int(free.getsockname()[1])
