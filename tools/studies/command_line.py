"""The arguments that all studies take."""
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Mapping, Sequence

import torch

QUEUED = 8
"""Trainings that wait for Slurm at a time."""


def parse(doc: str | None, argv: Sequence[str] | None, parts: Mapping[str, bool], rows: Sequence[str],
          seeds: Sequence[int], results: str, scales: bool) -> argparse.Namespace:
    """Arguments of a :class:`~study.Study`; ``gpus`` and ``jobs`` are set to what they are by default.

    ``scales``: whether trainings scale their learning rate with the number of processes.

    Raises:
        SystemExit: An argument is wrong.
    """
    parser = argparse.ArgumentParser(description=(doc or '').splitlines()[0])
    chosen = [part for part, chosen in parts.items() if chosen]
    parser.add_argument('--parts', nargs='+', choices=parts, default=chosen, metavar='PART',
                        help=f'of {", ".join(parts)} (default: {", ".join(chosen)})')
    parser.add_argument('--rows', nargs='+', choices=rows, default=(), metavar='ROW',
                        help=f'of {"; ".join(rows)} (default: all)')
    parser.add_argument('--seeds', type=int, nargs='+', default=seeds)
    parser.add_argument('--gpus', nargs='+', help='indices of GPUs to take turns on (default: all that are visible)')
    parser.add_argument('--processes', type=int, default=1, help='GPUs of each training (default: 1)')
    parser.add_argument('--jobs', type=int, help='trainings at a time (default: as many as there are GPUs for, or '
                        f'cores where there is none; under Slurm {QUEUED})')
    parser.add_argument('--slurm', default='', metavar='PARTITION', help='start trainings by tools/slurm_train.sh')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/studies/...')
    parser.add_argument('--cfg-options', nargs='*', default=[], help='for every training, as of tools/train.py')
    parser.add_argument('--smoke', action='store_true', help='trainings cut short, to see that everything runs')
    parser.add_argument('--results', type=Path, help=f'default: {results}; in the work directory where one of the '
                        'three options above makes it another study')
    parser.add_argument('--dry-run', action='store_true', help='print what would be trained, and what it would take')
    parser.add_argument('--report-only', action='store_true', help='make the table from what is recorded')
    args = parser.parse_args(argv)
    if args.cfg_options and not args.work_dir:
        parser.error('--cfg-options makes another study, with teachers of its own: give it a --work-dir')
    if args.gpus is None or args.slurm:
        args.gpus = [] if args.slurm else visible_gpus()
    if args.processes < 1 or 0 < len(args.gpus) < args.processes:
        there = f', and there are {len(args.gpus)} GPUs' if args.gpus else ''
        parser.error(f'--processes {args.processes}: must be at least 1{there}')
    if args.processes > 1 and not scales:
        parser.error(f'--processes {args.processes}: this study does not scale the learning rate with the batch')
    if args.jobs is None:
        places = len(args.gpus) or os.cpu_count() or 1
        args.jobs = QUEUED if args.slurm else max(places // args.processes, 1)
    if args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: must be at least 1')
    return args


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` wants them."""
    if not torch.cuda.device_count():
        return []
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES')
    return chosen.split(',') if chosen else [str(i) for i in range(torch.cuda.device_count())]
