#!/usr/bin/env python
"""What one training step asks of the device: kernel launches, waits of the host, and the longest kernels.

``profile_step.py [--pair retinanet] [--amp fp16] [--variants plain ours]`` profiles a step of each variant in this
process and writes ``profile_<pair>_<device>_<amp>.json``; on a CPU it counts operators.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Sequence

import torch
from pairs import DEFAULTS, PAIRS, Case
from torch.profiler import ProfilerActivity, profile
from worker import Worker

LAUNCHES = 'cudaLaunchKernel', 'cudaLaunchKernelExC', 'cuLaunchKernel', 'cuLaunchKernelEx'
WAITS = 'cudaStreamSynchronize', 'cudaDeviceSynchronize', 'cudaEventSynchronize', 'cudaMemcpy'
READS = 'aten::_local_scalar_dense', 'aten::nonzero'


def counts_of(case: Case, variant: str, longest: int = 15) -> dict[str, Any]:
    """Counts of one step after the warm-up, and the operators that take longest.

    Returns:
        dict: ``launches`` and ``waits`` of the host for the device, ``reads`` (operators that need a value on the host:
        the number of waits on a GPU even where this ran on a CPU), ``operators``, and ``longest`` as pairs of name and
        milliseconds.
    """
    worker = Worker(case, variant)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * worker.cuda
    with profile(activities=activities) as profiler:
        worker.steps(1)
        worker.wait()
    events = profiler.key_averages()
    count = {event.key: event.count for event in events}

    def sum_of(names: Sequence[str]) -> int:
        return sum(count.get(name, 0) for name in names)

    def time_of(event: Any) -> float:
        if not worker.cuda:
            return float(event.self_cpu_time_total) / 1e3
        name = 'self_device_time_total' if hasattr(event, 'self_device_time_total') else 'self_cuda_time_total'
        return float(getattr(event, name)) / 1e3  # named anew in PyTorch 2.4

    slowest = sorted(events, key=time_of, reverse=True)[:longest]
    return dict(variant=variant, launches=sum_of(LAUNCHES), waits=sum_of(WAITS), reads=sum_of(READS),
                operators=sum(number for name, number in count.items() if name.startswith('aten::')),
                longest=[[event.key[:80], round(time_of(event), 3)] for event in slowest])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--pair', choices=list(PAIRS), default='retinanet', help='student and teacher')
    parser.add_argument('--amp', choices=('none', 'fp16', 'bf16'), default='none', help='mixed precision, on a GPU')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--variants', nargs='+', default=['plain', 'ours'])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder of results')
    args = parser.parse_args(argv)
    case = Case(args.pair, *DEFAULTS[args.device][args.pair], args.amp, args.device, torch.get_num_threads())
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for variant in args.variants:
        rows.append(counts_of(case, variant))
        print({key: value for key, value in rows[-1].items() if key != 'longest'}, flush=True)
        for name, milliseconds in rows[-1]['longest']:
            print(f'  {milliseconds:8.3f} ms  {name}')
        path = args.out / f'profile_{case.pair}_{case.device}_{case.amp}.json'
        path.write_text(json.dumps(dict(case=case.to_dict(), rows=rows), indent=1) + '\n')


if __name__ == '__main__':
    main()
