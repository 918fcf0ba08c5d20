"""Scripts in processes of their own."""
from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from trainings import free_port

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


FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['mmsrd', 'mmdet.apis', 'mmdet.models', 'mmdet.evaluation', 'mmpretrain.models',
                              'mmpretrain.datasets'])


def forked(script: str | Path, *arguments: object, processes: int = 1, cwd: Path | None = None, ok: bool = True,
           timeout: int = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or a module by its name, in forks of a process that has the toolboxes imported already.

    Importing them takes seconds, most of what a small script needs. Where imports are what is tested, use :func:`run`.
    Several processes have the environment that ``torch.distributed.run`` gives them, and end when one of them fails.
    """
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    if processes > 1:
        environment.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), WORLD_SIZE=str(processes),
                           LOCAL_WORLD_SIZE=str(processes))
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in map(str, range(processes)):
            own = {**environment, 'RANK': rank, 'LOCAL_RANK': rank} if processes > 1 else environment
            children.append(FORKS.Process(target=_run_script, args=(
                str(script), [str(part) for part in arguments], str(cwd or Path.cwd()), own, f'{folder}/{rank}')))
            children[-1].start()
        end = time.monotonic() + timeout
        while any(child.is_alive() for child in children):
            if time.monotonic() > end or any(child.exitcode for child in children):
                for child in children:
                    child.kill()
            children[0].join(0.05)
        failed = [child.exitcode for child in children if child.exitcode]
        out, err = (''.join(Path(f'{folder}/{rank}.{stream}').read_text() for rank in range(processes))
                    for stream in ('out', 'err'))
    assert (not failed) == ok, out[-3000:] + err[-3000:]
    status = next((code for code in failed if code > 0), -9) if failed else 0  # of those that were not killed
    return subprocess.CompletedProcess([str(script)], status, out, err)


def _run_script(script: str, arguments: list[str], cwd: str, environment: dict[str, str], output: str) -> None:
    for number, stream in enumerate(('out', 'err'), start=1):
        os.dup2(os.open(f'{output}.{stream}', os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    is_file = script.endswith('.py')
    sys.path[:0] = [str(Path(script).parent) if is_file else cwd, *environment['PYTHONPATH'].split(os.pathsep)]
    if is_file:
        runpy.run_path(script, run_name='__main__')
    else:
        runpy.run_module(script, run_name='__main__', alter_sys=True)


def launch(processes: int, worker: str, *arguments: object) -> str:
    """Run a worker of this folder in one process or in several; its output."""
    return forked(WORKERS / worker, *arguments, processes=processes, timeout=900 if processes == 1 else 300,
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
