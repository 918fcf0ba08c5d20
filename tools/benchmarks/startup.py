#!/usr/bin/env python
"""How much later the first iteration begins with a teacher: ``startup.py STUDENT TEACHER TEACHER_CHECKPOINT``.

``tools/train.py STUDENT`` with and without ``--teacher``, each in a process of its own and in turns, until the first
iteration begins; and the time that building the teacher and reading its file take by themselves. The student's data
must exist. The teacher is not evaluated (``teacher.check``). What is left is ours: imports, checks of the block, the
dry run, folding, the projectors.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmsrd.teachers.build_model import build_model
from mmsrd.teachers.weights import read_weights
from mmsrd.utils.zoo import load_config

HERE = Path(__file__).resolve()
RECORD = HERE.parents[2] / 'docs/results/performance/startup.json'


@HOOKS.register_module(force=True)
class FirstIteration(Hook):
    """Ends the process when the first iteration begins, and says so."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        print('@first iteration', flush=True)
        os._exit(0)  # without waiting for workers of the data loader


def until_first_iteration(student: str, arguments: Sequence[str]) -> float:
    """Seconds from the start of ``tools/train.py`` to the first iteration.

    Raises:
        SystemExit: It ended before.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, 'student.py')
        config.write_text(f'_base_ = {str(Path(student).resolve())!r}\n'
                          "custom_imports = dict(imports=['startup'], allow_failed_imports=False)\n"
                          "default_hooks = dict(first_iteration=dict(type='FirstIteration'))\n")
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE.parents[1] / 'train.py'), str(config), '--work-dir', folder, *arguments],
            env={**os.environ, 'PYTHONPATH': str(HERE.parent)}, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
    if '@first iteration' not in done.stdout:
        raise SystemExit(f'no first iteration:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}')
    return seconds


def teacher_seconds(student: str, teacher: str, checkpoint: str) -> float:
    """Seconds that building the teacher and reading its weights take, with the toolbox imported."""
    build_model(load_config(student, 'STUDENT'), 'STUDENT')
    started = time.monotonic()
    read_weights(build_model(load_config(teacher, 'TEACHER'), 'TEACHER'), checkpoint, teacher, 'TEACHER_CHECKPOINT')
    return time.monotonic() - started


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('student', help='config')
    parser.add_argument('teacher', help='config')
    parser.add_argument('checkpoint', help='of the teacher')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--record', action='store_true', help='keep the turns in docs/results/performance')
    args = parser.parse_args(argv)
    given = ['--teacher', args.teacher, '--teacher-checkpoint', args.checkpoint,
             '--cfg-options', 'distill.teacher.check=False']
    turns = [(until_first_iteration(args.student, []), until_first_iteration(args.student, given))
             for _ in range(args.repeats + 1)][1:]  # files are read from the disk in the first turn
    plain, distilled = (statistics.median(column) for column in zip(*turns))
    later = [ours - other for other, ours in turns]
    building = teacher_seconds(args.student, args.teacher, args.checkpoint)
    print(f'first iteration after {plain:.1f} s, with a teacher after {distilled:.1f} s: '
          f'{statistics.median(later):.1f} s later (range {min(later):.1f} to {max(later):.1f}), '
          f'{building:.1f} s of them for building the teacher and reading its weights')
    if args.record:
        RECORD.write_text(json.dumps(dict(
            student=Path(args.student).name, teacher=Path(args.teacher).name, date=datetime.date.today().isoformat(),
            plain=[round(turn[0], 2) for turn in turns], distilled=[round(turn[1], 2) for turn in turns],
            teacher_seconds=round(building, 2))) + '\n')


if __name__ == '__main__':
    main()
