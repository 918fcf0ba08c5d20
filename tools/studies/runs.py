"""Trainings of a study: launched in parallel, recorded as JSON lines, not repeated once recorded."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Callable, Sequence

from launch import ONE_PROCESS, Launcher
from launch import ROOT as ROOT

sys.path.insert(0, str(ROOT / 'tools' / 'helpers'))
from machine import machine
from records import append_line, locked, read_lines
from records import between as between  # with the next two: for the studies, whose path this module makes
from records import markdown as markdown
from records import spread as spread

from mmsrd.engine.hooks.projector_diagnostics_hook import SPECTRA

ALIGNMENT = 'srd_alignment_'  # then the name of the loss


@dataclass(frozen=True)
class Job:
    """One training."""

    dataset: str  # which data
    row: str  # row of the table that it belongs to
    seed: int  # seed of the training
    config: str  # config file, from the root of the repository
    options: tuple[str, ...] = ()  # ``--cfg-options`` on top of it

    def __str__(self) -> str:
        return f'{self.dataset}, {self.row}, seed {self.seed}'

    def is_recorded_by(self, record: dict[str, Any]) -> bool:
        """Return whether ``record`` is the result of this very training."""
        return all(record[name] == (list(value) if isinstance(value, tuple) else value)
                   for name, value in vars(self).items())


def recorded(jobs: Sequence[Job], results: Path) -> dict[Job, dict[str, Any]]:
    """The newest record of each job that has one."""
    records = read_lines(results)
    return {job: found[-1] for job in jobs if (found := [r for r in records if job.is_recorded_by(r)])}


def run(jobs: Sequence[Job], results: Path, work_dir: Path, parallel: int, gpus: Sequence[str] = (),
        needed: Callable[[Job], bool] = lambda job: False, launcher: Launcher = ONE_PROCESS) -> None:
    """Train what has no record yet, ``parallel`` at a time, and append a record for each.

    They share the cores and take turns on the ``gpus``, given by their indices; none for what PyTorch finds by itself.
    ``needed`` says whether a recorded job must be run again because its files are needed and not there.

    Raises:
        SystemExit: A training failed; the others are finished and recorded first.
    """
    done = {job: record for job, record in recorded(jobs, results).items() if not needed(job)}
    todo = [job for job in jobs if job not in done]
    print(f'{len(done)} trainings recorded in {results}, {len(todo)} to run', flush=True)
    slots: Queue[int] = Queue()
    for slot in range(parallel):
        slots.put(slot)
    threads = max((os.cpu_count() or 1) // (parallel * launcher.processes), 1)
    failures = []

    def train(job: Job) -> None:
        slot = slots.get()
        try:
            environment = dict(os.environ)
            if not launcher.partition:
                environment.setdefault('OMP_NUM_THREADS', str(threads))
            if gpus:
                first = slot % (len(gpus) // launcher.processes) * launcher.processes
                environment['CUDA_VISIBLE_DEVICES'] = ','.join(gpus[first:first + launcher.processes])
            folder = work_dir / job.dataset / job.row / f'seed{job.seed}'
            with locked(folder / 'lock') as lock:
                if recorded([job], results) and not needed(job):  # by another command meanwhile
                    return
                started = time.time()
                resumed, processor_seconds = launcher.train(
                    job.config, folder, [f'randomness.seed={job.seed}', *job.options], environment, [lock.fileno()])
                seconds = round(time.time() - started, 1)
                whole = not (resumed or launcher.partition)  # times of a part, or of a queue, say nothing
                record = dict(**vars(job), **outcome(folder, launcher.resumes), processes=launcher.processes,
                              seconds=seconds if whole else None,
                              processor_seconds=processor_seconds if whole else None, **machine())
                record['device'] = trained_on(folder) or record['device']
                append_line(results, record)
            print(f'{job}: {record["metrics"]} after {seconds:.0f} s', flush=True)
        except subprocess.CalledProcessError:
            failures.append(f'{job}: failed, see {folder / "train.log"}')
        except ValueError as e:
            failures.append(f'{job}: {e}')
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(train, todo))
    if failures:
        raise SystemExit('\n'.join(failures))


def trained_on(folder: Path) -> str:
    """The GPU in a training's log: under Slurm this machine is another; empty without one."""
    found = re.findall(r'^ *GPU [\d,]+: (.+)$', (folder / 'train.log').read_text(), re.MULTILINE)
    return found[-1] if found else ''


def outcome(folder: Path, resumed: bool = False) -> dict[str, Any]:
    """Return what the newest training in ``folder`` logged; all of them, where each went on from the last.

    Returns:
        dict: ``metrics`` of the last validation; ``curve``: of every validation the step and the first metric;
        ``alignment``: the last of each loss; where ``ProjectorDiagnosticsHook`` was on ``diagnostics``, its
        scalars as curves, and ``spectra``, the last singular values of each projector.

    Raises:
        ValueError: The last validation found nothing to measure, or there was none.
    """
    paths = sorted(folder.glob('*/vis_data/scalars.json')) or [folder / 'scalars.json']
    path = paths[-1]
    # What a resumed training did once more counts as it did it then.
    logged = list({(_kind(line), line['step']): line
                   for part in (paths if resumed else [path]) for line in read_lines(part)}.values())
    training, looked, validation = ([line for line in logged if _kind(line) == kind]
                                    for kind in ('training', 'diagnostics', 'validation'))
    metrics = [{k: v for k, v in line.items() if k not in ('data_time', 'time', 'step') and v == v}  # no NaN
               for line in validation]
    if not metrics or not metrics[-1]:
        raise ValueError(f'{path}: the last validation has no result')
    found = dict(metrics=metrics[-1],
                 curve=[[line['step'], *list(values.values())[:1]]
                        for line, values in zip(validation, metrics)],
                 alignment={k[len(ALIGNMENT):]: round(v, 4) for k, v in training[-1].items()
                            if k.startswith(ALIGNMENT)})
    if looked:
        names = sorted({key for line in looked for key in line if key != 'step'})
        found['diagnostics'] = {name: [[line['step'], float(f'{line[name]:.4g}')] for line in looked if name in line]
                                for name in names}
    if spectra := read_lines(path.with_name(SPECTRA)):
        found['spectra'] = {name: [float(f'{value:.3g}') for value in values]
                            for name, values in spectra[-1]['spectra'].items()}
    return found


def _kind(line: dict[str, Any]) -> str:
    """Who logged a line."""
    if 'loss' in line:
        return 'training'
    return 'diagnostics' if any(key.startswith('srd_') for key in line) else 'validation'
