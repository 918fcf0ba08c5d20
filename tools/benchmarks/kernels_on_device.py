#!/usr/bin/env python
"""The fused SRD loss on this device against the reference in float64: values, gradients, alignment.

``kernels_on_device.py [--shape 800 1344] [--batches 8 16]`` compares five levels of a detector in each dtype and memory
layout, and ends with status 1 where one is off. On a CPU it takes Triton's interpreter (``TRITON_INTERPRET=1``): use
small images.
"""
from __future__ import annotations

import argparse
import itertools
import sys
import time
from typing import Sequence

import torch
from torch import Tensor

from mmsrd.models.losses import SRDLoss
from mmsrd.ops import has_triton

DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
LAYOUTS = {'NCHW': torch.contiguous_format, 'channels-last': torch.channels_last}
STRIDES = 8, 16, 32, 64, 128
LIMIT = 1e-3
"""Of the loss, and of a gradient relative to its largest element; the rounding of the dtype comes on top."""


def levels(shape: Sequence[int], batch: int, channels: int, dtype: torch.dtype, layout: torch.memory_format,
           device: str) -> list[Tensor]:
    """Related features of student and teacher, in turns: the student's first."""
    generator = torch.Generator(device).manual_seed(0)
    features = []
    for stride in STRIDES:
        size = batch, channels, *(max(-(-side // stride), 1) for side in shape)
        student, noise = (torch.randn(size, generator=generator, device=device) for _ in range(2))
        features += [student.to(dtype), (0.5 * student + noise + 1).to(dtype).to(memory_format=layout)]
    return features


def run(features: list[Tensor], backend: str, form: str) -> tuple[float, list[float], list[Tensor]]:
    """Loss, alignments, and gradients of the student's levels at the loss scale of fp16."""
    students = [x.detach().requires_grad_() for x in features[::2]]
    loss, logs = SRDLoss(backend=backend, form=form)(students, features[1::2])
    return float(loss), logs['alignment'].tolist(), list(torch.autograd.grad(loss * 4096, students))


def off_by(features: list[Tensor], form: str) -> float:
    """Largest error of the kernels, as a multiple of what is allowed."""
    loss, alignment, gradients = run(features, 'triton', form)
    expected, rho, references = run([x.double() for x in features], 'autograd', form)
    rounding = torch.finfo(features[0].dtype).eps
    errors = [abs(loss - expected) / LIMIT, *(abs(a - r) / LIMIT for a, r in zip(alignment, rho))]
    for gradient, reference in zip(gradients, references):
        # Of a level with too few rows both are zero.
        largest = float((gradient.double() - reference).abs().max() / reference.abs().max().clamp(min=1e-30))
        errors.append(largest / (LIMIT + rounding) if largest == largest else float('inf'))
    return max(errors)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--shape', type=int, nargs=2, default=(800, 1344), metavar=('H', 'W'), help='of the images')
    parser.add_argument('--batches', type=int, nargs='+', default=(8, 16), help='images in a batch')
    parser.add_argument('--channels', type=int, default=256)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args(argv)
    if not has_triton() and args.device != 'cpu':
        print('not tried: there is no Triton 3.0 or newer, and the loss uses the operators of PyTorch')
        return 0
    failed, settings = 0, list(itertools.product(
        args.batches, DTYPES.items(), LAYOUTS.items(), ('elementwise', 'correlation')))
    for batch, (name, dtype), (layout, memory_format), form in settings:
        started = time.perf_counter()
        error = off_by(levels(args.shape, batch, args.channels, dtype, memory_format, args.device), form)
        failed += error > 1
        print(f'batch {batch}, {name}, teacher {layout}, {form}: {error:.3f} of what is allowed'
              f'{"" if error <= 1 else " - WRONG"} ({time.perf_counter() - started:.1f} s)', flush=True)
    print(f'{failed} of {len(settings)} are off')
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
