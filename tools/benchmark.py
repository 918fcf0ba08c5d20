#!/usr/bin/env python
"""What distillation costs: step time and memory of variants of one training step, side by side.

``benchmark.py [--pair fcos|retinanet|faster-rcnn|resnet] [--amp fp16]`` measures on the GPU, if PyTorch finds
one, else on the CPU with small images. One process for each variant; they take turns; medians and ratios to the
plain step are printed and saved with a chart. ``--scaling`` measures how the cost grows instead, ``--report FILE...``
prints the tables of saved results.
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
from harness import measure
from machine import machine
from pairs import DEFAULTS, PAIRS, Case, variants_of
from report import chart, scaling_table, table, title
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
    result: dict[str, Any] = dict(case=case.to_dict(), machine=machine(args.device))
    steps = args.steps or (10 if args.device == 'cuda' else 3)
    name = f'{"scaling_" if args.scaling else ""}{case.pair}_{case.device}_{case.amp}'
    if args.scaling:
        result['scaling'] = measure_scaling(case, args.repeats, steps)
        print(f'\n{title(result)}\n\n{scaling_table(result)}')
    else:
        variants = args.variants or variants_of(case)
        result['rows'] = measure(case, list(dict.fromkeys(['plain', *variants])), args.repeats, steps)
        print(f'\n{title(result)}\n\n{table(result)}')
        chart(result, args.out / f'{name}.png')
    path = args.out / f'{name}.json'
    path.write_text(json.dumps(result, indent=1) + '\n')
    print(f'\nsaved {path}')


if __name__ == '__main__':
    main()
