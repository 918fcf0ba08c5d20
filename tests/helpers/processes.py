"""Scripts in processes of their own."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
