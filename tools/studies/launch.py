"""How a training of a study is started: in this process's machine on one or several GPUs, or under Slurm."""
from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
GPUS_PER_NODE = 8


@dataclass(frozen=True)
class Launcher:
    """Starts trainings.

    Attributes:
        processes: Processes of each training, each with a GPU where there are some.
        partition: Partition of Slurm; empty to start on this machine.
        resumes: Whether a training goes on from the last checkpoint in its work directory.
    """

    processes: int = 1
    partition: str = ''
    resumes: bool = False

    def train(self, config: str, folder: Path, options: Sequence[str], environment: Mapping[str, str]) -> float:
        """Train until the end; what is printed goes to ``train.log`` in ``folder``.

        Args:
            config: Config file, from the root of the repository.
            folder: Work directory.
            options: ``--cfg-options``.
            environment: Environment variables.

        Returns:
            float: Seconds.

        Raises:
            subprocess.CalledProcessError: The training failed.
        """
        command, more = self.command(config, folder)
        going_on = self.resumes and (folder / 'last_checkpoint').is_file()
        started = time.time()
        with open(folder / 'train.log', 'a' if going_on else 'w') as log:
            subprocess.run([*command, *(['--resume'] if going_on else []), '--cfg-options', *options], cwd=ROOT,
                           stdout=log, stderr=subprocess.STDOUT, env={**environment, **more}, check=True)
        return time.time() - started

    def command(self, config: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Command line without ``--resume`` and ``--cfg-options``, and what it needs in the environment."""
        variables = {'PYTHON': sys.executable}
        if self.partition:
            variables.update(GPUS=str(self.processes), GPUS_PER_NODE=str(min(self.processes, GPUS_PER_NODE)))
            name = '-'.join(folder.parts[-3:]).replace(' ', '_')
            return ['bash', 'tools/slurm_train.sh', self.partition, name, config, str(folder)], variables
        if self.processes > 1:
            variables['PORT'] = str(_free_port())
            return ['bash', 'tools/dist_train.sh', config, str(self.processes), '--work-dir', str(folder)], variables
        return [sys.executable, 'tools/train.py', config, '--work-dir', str(folder)], variables


ONE_PROCESS = Launcher()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return int(free.getsockname()[1])
