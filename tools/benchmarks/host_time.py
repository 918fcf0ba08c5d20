#!/usr/bin/env python
"""What the host does for the fused SRD loss beside launching kernels: ``host_time.py [--levels 5]``, without a GPU.

The kernels are replaced by counters, so this is the time of our own Python and of PyTorch's allocations and autograd,
forward and backward; a launch by Triton takes some 5 to 10 µs more each.
"""
from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any, Sequence

os.environ.setdefault('TRITON_INTERPRET', '1')  # without it Triton looks for a GPU when it is imported
import torch

from mmsrd.models.losses import SRDLoss
from mmsrd.ops import triton_kernels


class Counter:
    """In place of a kernel: notes its name in ``launches``."""

    def __init__(self, launches: list[str], name: str) -> None:
        self.launches, self.name = launches, name

    def __getitem__(self, grid: Any) -> Any:
        return self.launch

    def launch(self, *arguments: Any, **constants: Any) -> None:
        self.launches.append(self.name)


def measure(levels: int, repeats: int = 200) -> tuple[int, float]:
    """Launches of a step of the loss, and median milliseconds of the host's own time."""
    launches: list[str] = []
    for name in [name for name in vars(triton_kernels) if name.endswith('_kernel')]:
        setattr(triton_kernels, name, Counter(launches, name))
    students = [torch.randn(2, 16, max(100 >> i, 1), max(168 >> i, 1), requires_grad=True) for i in range(levels)]
    teachers = [x.detach().to(memory_format=torch.channels_last) for x in students]
    criterion, times = SRDLoss(backend='triton'), []
    for _ in range(repeats):
        launches.clear()
        started = time.process_time()
        loss, _ = criterion(students, teachers)
        torch.autograd.grad(loss, students)
        times.append((time.process_time() - started) * 1e3)
    return len(launches), statistics.median(times)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--levels', type=int, default=5)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    launches, milliseconds = measure(args.levels)
    print(f'{args.levels} levels: {launches} launches, {milliseconds:.3f} ms of host time beside them')


if __name__ == '__main__':
    main()
