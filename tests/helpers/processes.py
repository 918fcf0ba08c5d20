"""Scripts in processes of their own."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKERS = Path(__file__).parent


def run(*command: str | Path, cwd: Path | None = None, ok: bool = True, timeout: int = 300,
        **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this Python first on the path; the checkout is importable unless ``env`` says otherwise."""
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                   'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert (done.returncode == 0) == ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def python(*arguments: str | Path, cwd: Path | None = None, ok: bool = True, timeout: int = 300,
           **env: str) -> subprocess.CompletedProcess[str]:
    """Run this Python; see :func:`run`."""
    return run(sys.executable, *arguments, cwd=cwd, ok=ok, timeout=timeout, **env)


def launch(processes: int, worker: str, *arguments: object) -> str:
    """Run a worker of this folder in one process, or in several as dist_train.sh does; its output."""
    launcher = [] if processes == 1 else ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}',
                                          '--rdzv_backend=c10d', '--rdzv_endpoint=localhost:0']
    return python(*launcher, WORKERS / worker, *map(str, arguments), timeout=900 if processes == 1 else 300,
                  PYTHONPATH=f'{ROOT}:{WORKERS.parent}').stdout


def run_cases(package: str, cases: str, cwd: Path, **env: str) -> int:
    """Run tests of a file in a process that finds a package which ``tools/setup_env.sh`` has put beside the others.

    Returns:
        int: How many have passed.
    """
    folder = Path(sys.prefix, package)
    if not Path(sys.prefix, 'mmsrd-stamp').is_file():
        pytest.skip(f'an environment of the compatibility matrix, which has no {package}')
    assert (folder / package).is_dir(), f'no {package} in {folder}; run tools/setup_env.sh'
    done = python('-m', 'pytest', '-p', 'no:cacheprovider', '-p', 'no:xdist', '--confcutdir', ROOT / 'tests',
                  ROOT / 'tests' / cases, cwd=cwd, PYTHONPATH=os.pathsep.join(map(str, (folder, ROOT))), **env)
    return int(re.search(r'(\d+) passed', done.stdout)[1])
