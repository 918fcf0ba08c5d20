#!/usr/bin/env python
"""The plan of a distillation without training: what is compared, and what it costs.

``print_distill.py CONFIG [--teacher CONFIG ...] [--shape H W] [--batch N]``; no weights are read.
"""
from __future__ import annotations

import argparse
import sys
from typing import Sequence

import torch
from costs import Costs, measure_costs

from mmsrd.apis import distilled_config, parser_for
from mmsrd.distillers import attach_distiller, read_block
from mmsrd.errors import MMSRDError
from mmsrd.teachers.build_model import build_model
from mmsrd.utils.zoo import config_path


def report(costs: Costs, batch: int, interval: int = 1) -> str:
    """The costs as lines of text; the teacher runs in every ``interval``-th step."""
    lines = [f'projectors: {costs.projectors / 1e6:.3f} M parameters, trained with the student']
    for name, part in costs.flops_to_tap.items():
        if part is None:
            lines.append('FLOPs of the teacher: PyTorch 2.1 or newer counts them')
            continue
        whole = costs.flops_whole[name]
        share = f', {part / whole:.0%} of its whole forward pass ({whole / 1e9 / batch:.1f})' if whole else \
            '; its whole forward pass needs annotations'
        lines.append(f'teacher{" " + name if name else ""}: {part / 1e9 / batch:.1f} GFLOPs per image to its deepest '
                     f'tap{share}; a multiply-add counts 2')
    if costs.teachers_share is not None:
        every = '' if interval == 1 else f'; with interval {interval}, {costs.teachers_share / interval:.0%} on average'
        lines.append(f'a step of the student costs three forward passes ({costs.flops_student / 1e9 / batch:.1f} '
                     f'GFLOPs each per image): the teacher adds {costs.teachers_share:.0%} to its FLOPs{every}')
    mib, kept = 2**20, costs.saved / 2**20
    lines.append(f'memory at batch {batch}, float32: {costs.memory / mib:.0f} MiB more than the student alone '
                 f'(teacher weights {costs.teacher_weights / mib:.0f}, its features {costs.features / mib:.0f}, kept '
                 f'for backward {kept:.0f}, projectors with gradient and momentum '
                 f'{12 * costs.projectors / mib:.0f}); the teacher\'s own activations come and go before backward')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0], parents=[parser_for('train')],
                                     usage='print_distill.py CONFIG [--teacher CONFIG] [...]')
    parser.add_argument('config', help='a path or a model zoo name (mmdet::...)')
    parser.add_argument('--shape', type=int, nargs=2, default=[224, 224], metavar=('H', 'W'), help='of the images')
    parser.add_argument('--batch', type=int, default=2, help='images')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='as for train.py')
    args = parser.parse_args(argv)
    config = distilled_config(config_path(args.config, 'config'), args, sys.argv[1:] if argv is None else argv)
    block = read_block(config.get('distill'))
    student = build_model(config, 'model')
    distiller = attach_distiller(student, block)  # logs the plan
    for teacher in distiller.teachers.values():
        teacher.record()  # no weights are read
    images = torch.randn(args.batch, distiller.plan.recording.channels, *args.shape)
    print(report(measure_costs(student, images), args.batch, block.schedule.interval))


if __name__ == '__main__':
    try:
        main()
    except MMSRDError as e:
        raise SystemExit(f'{type(e).__name__}: {e}') from None
