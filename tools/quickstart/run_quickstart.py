#!/usr/bin/env python
"""Train a teacher, a student alone and the student distilled on composed digits, and report.

Each training is ``tools/train.py`` on a config of ``configs/quickstart``, as a
user would run it. Both students of a seed have the same initial weights, data
order and schedule.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools'))
from compose_digits import compose
from quickstart_report import Run, report

WORK_DIR = Path('work_dirs/quickstart')  # as in configs/quickstart
CONFIGS = dict(
    teacher='configs/quickstart/fcos_digits_teacher.py',
    student='configs/quickstart/fcos_digits_student.py',
    distilled='configs/quickstart/srd_neck_fcos-w32_fcos-w8_digits.py')
TRAIN_IMAGES, VAL_IMAGES = 1000, 300
PROGRESS = re.compile(r'Iter\(train\) \[ *(\d+)/(\d+)\].*?  loss: (-?[\d.]+)(?:.*srd_alignment_\w+: (-?[\d.]+))?')
"""Step, steps, loss and alignment in a line of the training log."""
_MAP = re.compile(r'coco/bbox_mAP: ([\d.]+)')


def train(role: str, seed: int, options: list[str]) -> Run:
    """Run one training in a process of its own, show its progress on one line, and time it."""
    work_dir = WORK_DIR / (role if role == 'teacher' else f'{role}_seed{seed}')
    options = [f'randomness.seed={seed}', *options]
    if role == 'distilled':
        options.append(f'distill.report.baseline={WORK_DIR}/student_seed{seed}')
    command = [sys.executable, 'tools/train.py', CONFIGS[role], '--work-dir', str(work_dir), '--cfg-options', *options]
    work_dir.mkdir(parents=True, exist_ok=True)
    label, score, started = f'{role}, seed {seed}', '', time.time()
    with open(work_dir / 'train.log', 'w') as log, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if found := _MAP.search(line):
                score = f', mAP {100 * float(found.group(1)):.1f}'
            if found := PROGRESS.search(line):
                step, steps, loss, alignment = found.groups()
                aligned = f', alignment {float(alignment):.2f}' if alignment else ''
                show(f'{label}: step {step}/{steps}, loss {float(loss):.2f}{aligned}{score}', last=False)
    seconds = time.time() - started
    if process.returncode:
        raise SystemExit(f'\n{label}: training failed, see {work_dir / "train.log"}')
    show(f'{label}: done in {seconds:.0f} s{score}', last=True)
    return Run(role, seed, work_dir, CONFIGS[role], seconds)


def show(text: str, last: bool) -> None:
    """Print progress: over the previous line on a terminal, else a line now and then."""
    if sys.stdout.isatty():
        print(f'\r{text:<100}', end='\n' if last else '', flush=True)
    elif last or re.search(r'step \d*00/', text):
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='seeds of the students (default: 0)')
    parser.add_argument('--cfg-options', nargs='*', default=[], help='for every training, as of tools/train.py')
    parser.add_argument('--report-only', action='store_true', help='only make table and pictures anew')
    args = parser.parse_args()
    os.chdir(ROOT)
    if args.report_only:
        print(report(WORK_DIR))
        return
    print(f'composing {TRAIN_IMAGES} training and {VAL_IMAGES} validation images from handwritten digits', flush=True)
    compose(WORK_DIR / 'data', TRAIN_IMAGES, VAL_IMAGES)
    runs = [train('teacher', 0, args.cfg_options)]
    for seed in args.seeds:
        runs += [train(role, seed, args.cfg_options) for role in ('student', 'distilled')]
    print(report(WORK_DIR, runs))


if __name__ == '__main__':
    main()
