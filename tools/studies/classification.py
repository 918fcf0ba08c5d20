#!/usr/bin/env python
"""Classification study: student alone, KL, SRD, SRD + KL on Fashion-MNIST and digits with few labels.

Each training is ``tools/train.py`` on a config of ``configs/mmpretrain``; rows differ
in the weights of the two losses only. Results are recorded in
``docs/results/classification.jsonl``, and what is recorded is not run again.
"""
from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any, Sequence

from runs import ROOT, Job, recorded, run

RESULTS = Path('docs/results/classification.jsonl')
WORK_DIR = Path('work_dirs/studies/classification')
SMOKE_DIR = Path('work_dirs/studies/smoke')
README = Path('configs/mmpretrain/README.md')
MARKS = '<!-- table of tools/studies/classification.py -->', '<!-- end of table -->'
FOLDER = 'configs/mmpretrain'
SEEDS = (0, 1, 2, 3, 4)
# Config of the student alone, of the teacher, and the epoch whose checkpoint teaches.
DATASETS = {
    'fashion_mnist': ('resnet8_fashion-mnist-1k', 'resnet20_fashion-mnist', 5),
    'digits': ('resnet8_digits-100', 'resnet20_digits', 30),
}
TITLES = {'fashion_mnist': 'Fashion-MNIST, 1,000 labels', 'digits': 'digits, 100 labels'}
ROWS: dict[str, tuple[str, ...]] = {
    'teacher': (),
    'student alone': (),
    'KL': ('distill.losses.feature.weight=0',),
    'SRD': ('distill.losses.logits.weight=0',),
    'SRD + KL': (),
}
SMOKE = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1',
         'train_dataloader.batch_size=10')


def teacher_job(dataset: str, options: Sequence[str] = ()) -> Job:
    """Training of the one teacher of a dataset."""
    return Job(dataset, 'teacher', 0, f'{FOLDER}/{dataset}/{DATASETS[dataset][1]}.py', tuple(options))


def checkpoint(dataset: str, work_dir: Path, options: Sequence[str] = ()) -> Path:
    """The teacher's last checkpoint."""
    epoch = 1 if SMOKE[0] in options else DATASETS[dataset][2]
    return work_dir / dataset / 'teacher' / 'seed0' / f'epoch_{epoch}.pth'


def student_jobs(dataset: str, seeds: Sequence[int], work_dir: Path, options: Sequence[str] = ()) -> list[Job]:
    """Trainings of all rows but the teacher's."""
    student, teacher, _ = DATASETS[dataset]
    distilled = f'{FOLDER}/{dataset}/srd_backbone_{teacher.split("_")[0]}_{student}.py'
    jobs = []
    for row, weights in ROWS.items():
        if row == 'teacher':
            continue
        alone = row == 'student alone'
        weights_of_teacher = f'distill.teacher.checkpoint={checkpoint(dataset, work_dir, options)}'
        own = (*weights, *options) if alone else (*weights, weights_of_teacher, *options)
        jobs += [Job(dataset, row, seed, f'{FOLDER}/{dataset}/{student}.py' if alone else distilled, own)
                 for seed in seeds]
    return jobs


def all_jobs() -> list[Job]:
    """Every training of the README's table."""
    return [job for dataset in DATASETS
            for job in (teacher_job(dataset), *student_jobs(dataset, SEEDS, WORK_DIR))]


def table(records: dict[Job, dict[str, Any]]) -> str:
    """Markdown table of top-1 accuracy and alignment, a row for each dataset and row."""
    lines = ['| data | training | seeds | top-1 (%) | over alone | alignment |', '|---|---|---|---|---|---|']
    for dataset in DATASETS:
        accuracy = {(j.row, j.seed): r['metrics']['accuracy/top1'] for j, r in records.items() if j.dataset == dataset}
        for row in ROWS:
            seeds = sorted(seed for name, seed in accuracy if name == row)
            if not seeds:
                continue
            # Runs of one seed share initial weights and data order, so the gain is taken seed by seed.
            gains = [accuracy[row, s] - accuracy['student alone', s] for s in seeds
                     if row not in ('teacher', 'student alone') and ('student alone', s) in accuracy]
            aligned = [r['alignment']['feature'] for j, r in records.items()
                       if (j.dataset, j.row) == (dataset, row) and row.startswith('SRD')]
            cells = [TITLES[dataset], row, str(len(seeds)), _spread([accuracy[row, seed] for seed in seeds]),
                     _spread(gains, '+') if gains else '', f'{statistics.mean(aligned):.2f}' if aligned else '']
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _spread(values: Sequence[float], sign: str = '') -> str:
    mean = f'{statistics.mean(values):{sign}.2f}'
    return f'{mean} ± {statistics.stdev(values):.2f}' if len(values) > 1 else mean


def with_table(text: str, new: str) -> str:
    """``text`` with ``new`` between the marks."""
    before, _, rest = text.partition(MARKS[0])
    return f'{before}{MARKS[0]}\n{new}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}'


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--datasets', nargs='+', choices=DATASETS, default=list(DATASETS))
    parser.add_argument('--rows', nargs='+', choices=[row for row in ROWS if row != 'teacher'], help='default: all')
    parser.add_argument('--seeds', type=int, nargs='+', default=SEEDS)
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='trainings at a time')
    parser.add_argument('--gpus', nargs='*', default=[], help='GPU indices to take turns on')
    parser.add_argument('--results', type=Path, help=f'default: {RESULTS}, or {SMOKE_DIR}/results.jsonl with --smoke')
    parser.add_argument('--work-dir', type=Path, help=f'default: {WORK_DIR}, or {SMOKE_DIR} with --smoke')
    parser.add_argument('--cfg-options', nargs='*', default=[], help='for every training, as of tools/train.py')
    parser.add_argument('--smoke', action='store_true', help='one short epoch each, to see that everything runs')
    parser.add_argument('--report-only', action='store_true', help='make the table from what is recorded')
    args = parser.parse_args(argv)
    os.chdir(ROOT)
    args.results = args.results or (SMOKE_DIR / 'results.jsonl' if args.smoke else RESULTS)
    args.work_dir = args.work_dir or (SMOKE_DIR if args.smoke else WORK_DIR)
    options = (*(SMOKE if args.smoke else ()), *args.cfg_options)
    teachers = [teacher_job(dataset, options) for dataset in args.datasets]
    students = [job for dataset in args.datasets for job in student_jobs(dataset, args.seeds, args.work_dir, options)
                if job.row in (args.rows or ROWS)]
    if not args.report_only:
        done = recorded(students, args.results)
        pending = {job.dataset for job in students if job not in done}
        run(teachers, args.results, args.work_dir, args.jobs, args.gpus,
            lambda job: job.dataset in pending and not checkpoint(job.dataset, args.work_dir, options).is_file())
        run(students, args.results, args.work_dir, args.jobs, args.gpus)
    print(table(recorded([*teachers, *students], args.results)))
    if args.results == RESULTS and not options:
        README.write_text(with_table(README.read_text(), table(recorded(all_jobs(), args.results))))


if __name__ == '__main__':
    main()
