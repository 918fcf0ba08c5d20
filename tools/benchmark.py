#!/usr/bin/env python
"""What distillation costs: step time and memory of variants of one training step, side by side.

``benchmark.py [--pair fcos|retinanet|faster-rcnn|resnet] [--amp fp16]`` measures on the GPU, if PyTorch finds
one, else on the CPU with small images. Each variant has a process of its own and takes turns with the plain step;
medians and ratios to it are saved after every turn, printed, and drawn. ``--scaling`` measures how the cost grows
instead, ``--report FILE...`` prints the tables of saved results.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Sequence

sys.path[:0] = [str(Path(__file__).resolve().parent / folder) for folder in ('benchmarks', 'helpers')]
import torch
from benchmark_tables import chart, scaling_table, table, title
from harness import measure
from machine import machine
from pairs import DEFAULTS, PAIRS, Case, mmcv_ops, variants_of
from scaling import measure_scaling


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--pair', choices=list(PAIRS), default='fcos', help='student and teacher')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), help='of the images')
    parser.add_argument('--batch', type=int, help='images in a step')
    parser.add_argument('--amp', choices=('none', 'fp16', 'bf16'), default='none', help='mixed precision, on a GPU')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='of PyTorch on the CPU')
    parser.add_argument('--variants', nargs='+', help='which (default: all that make sense); plain is always measured')
    parser.add_argument('--repeats', type=int, default=7, help='turns of each variant')
    parser.add_argument('--steps', type=int, help='steps in a turn (default: 10 on a GPU, 3 on the CPU)')
    parser.add_argument('--minutes', type=float, help='leave out variants that would not end by then (default: 7 on a '
                        'GPU, no limit on the CPU)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder of results')
    parser.add_argument('--scaling', action='store_true', help='how the cost grows with batch, image, levels, channels '
                        'and processes')
    parser.add_argument('--report', type=Path, nargs='+', metavar='FILE', help='print tables of saved results')
    args = parser.parse_args(argv)
    if args.report:
        for path in args.report:
            result = json.loads(path.read_text())
            print(f'**{title(result)}**\n\n{(scaling_table if "scaling" in result else table)(result)}\n')
        return
    height, width, batch = DEFAULTS[args.device][args.pair]
    height, width = args.shape or (height, width)
    case = Case(args.pair, height, width, args.batch or batch, args.amp, args.device, args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = dict(case=case.to_dict(), machine=machine(args.device), mmcv_ops=mmcv_ops())
    steps = args.steps or (10 if args.device == 'cuda' else 3)
    name = f'{"scaling_" if args.scaling else ""}{case.pair}_{case.device}_{case.amp}'
    path = args.out / f'{name}.json'

    def save(key: str, rows: list[dict[str, Any]]) -> None:
        result[key] = rows
        write_whole(path, json.dumps(result, indent=1) + '\n')

    if args.scaling:
        measure_scaling(case, args.repeats, steps, lambda rows: save('scaling', rows))
        print(f'\n{title(result)}\n\n{scaling_table(result)}')
    else:
        variants = args.variants or variants_of(case)
        minutes = args.minutes or (7 if args.device == 'cuda' else None)
        measure(case, variants, args.repeats, steps, minutes, lambda rows: save('rows', rows))
        print(f'\n{title(result)}\n\n{table(result)}')
    print(f'\nsaved {path}')
    if not args.scaling and any('step_ratio' in row for row in result['rows']):
        chart(result, path.with_suffix('.png'))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whatever stops the benchmark leaves the old or the new text."""
    new = path.with_suffix('.new')
    new.write_text(text)
    new.replace(path)


if __name__ == '__main__':
    main()
