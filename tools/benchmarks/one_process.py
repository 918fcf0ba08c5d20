#!/usr/bin/env python
"""Small differences between training steps: ``one_process.py [--pair fcos] [--turns 30]``, on a CPU.

Two processes that do the same differ by a few percent on a CPU, so here all variants live in one and take turns, step
by step. On a GPU their memory would not fit; ``tools/benchmark.py`` has a process for each.
"""
from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch
from pairs import DEFAULTS, PAIRS, Case
from worker import Worker

RECORDS = Path(__file__).resolve().parents[2] / 'docs' / 'results' / 'performance'
VARIANTS = ('plain', 'ours', 'no balance', 'ended', 'device check', 'scale 0.5', 'interval 2')


def measure(case: Case, turns: int) -> list[dict[str, float]]:
    """Milliseconds of a step of each variant and of the teacher alone (``'teacher'``), for each turn."""
    workers = {variant: Worker(case, variant) for variant in VARIANTS}
    teacher = workers['ours'].model.distiller.teacher
    batches = [workers['ours'].model.data_preprocessor(batch, True) for batch in workers['ours'].data]
    results = []
    for turn in range(turns):
        first = turn % len(VARIANTS)  # so that none always follows the same
        times = {}
        for variant in (*VARIANTS[first:], *VARIANTS[:first]):
            worker = workers[variant]
            steps = 2 if variant == 'interval 2' else 1  # one that is distilled, and one that is not
            times[variant] = worker.time(
                lambda worker=worker, steps=steps: worker.steps(steps), 1) / steps  # type: ignore[misc]
        batch = batches[turn % len(batches)]
        times['teacher'] = worker.time(lambda: teacher.features(batch['inputs'], batch['data_samples']), 1)  # noqa: B023
        results.append(times)
    return results


def compared(turns: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return what is asked of the turns, by name, turn by turn."""
    return {
        'distilled step / (plain step + teacher alone)': [t['ours'] / (t['plain'] + t['teacher']) for t in turns],
        'with balance / with constant weights': [t['ours'] / t['no balance'] for t in turns],
        'after `schedule.end` / plain step': [t['ended'] / t['plain'] for t in turns],
        **{f'{variant}: (step - plain step) / teacher alone': [(t[variant] - t['plain']) / t['teacher'] for t in turns]
           for variant in ('scale 0.5', 'interval 2')},
        'after device check / distilled step': [t['device check'] / t['ours'] for t in turns],
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--pair', choices=list(PAIRS), default='fcos')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of PyTorch')
    parser.add_argument('--turns', type=int, default=30)
    parser.add_argument('--record', action='store_true', help='keep the turns in docs/results/performance')
    args = parser.parse_args(argv)
    turns = measure(Case(args.pair, *DEFAULTS['cpu'][args.pair], threads=args.threads), args.turns)
    print(f'{args.pair}, {len(turns)} turns; median ms: ' + ', '.join(
        f'{name} {statistics.median(turn[name] for turn in turns):.0f}' for name in turns[0]))
    print('| what | median | middle half of the turns |\n|---|---|---|')
    for name, ratios in compared(turns).items():
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f'| {name} | {middle:.3f} | {low:.3f} to {high:.3f} |')
    if args.record:
        rounded = [{name: round(milliseconds, 2) for name, milliseconds in turn.items()} for turn in turns]
        (RECORDS / f'one_process_{args.pair}.json').write_text(json.dumps(dict(
            pair=args.pair, threads=args.threads, date=datetime.date.today().isoformat(), turns=rounded)) + '\n')


if __name__ == '__main__':
    main()
