#!/usr/bin/env python
"""Compare the features of a teacher that was made fast with those of the plain float32 teacher.

``compare_teacher.py CONFIG [--teacher CONFIG --teacher-checkpoint PATH] [--images N]`` runs every way of making the
teacher fast on validation images of the student's config, and prints the alignment (mean correlation per channel)
of each level. It fails where one is below 0.999.
"""
from __future__ import annotations

import argparse
import copy
import sys
from typing import Any, Sequence

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmsrd.apis import distilled_config, parser_for
from mmsrd.config import PLAIN
from mmsrd.distillers import attach_distiller, read_block, text_table
from mmsrd.engine.evaluate_teacher import without_workers
from mmsrd.errors import MMSRDError
from mmsrd.models.losses.functional import correlation, standardize
from mmsrd.teachers.build_model import build_model
from mmsrd.utils.tensors import channel_dim
from mmsrd.utils.zoo import config_path

ALL = dict(fold=True, channels_last=True)
WAYS: dict[str, dict[str, Any]] = {
    'folded': dict(fold=True), 'channels last': dict(channels_last=True), 'bf16': dict(precision='bf16'),
    'fp16': dict(precision='fp16'), 'all, bf16': dict(ALL, precision='bf16'), 'all, fp16': dict(ALL, precision='fp16')}
LEAST = 0.999


def features(config: Config, options: dict[str, Any], data: dict[str, Any]) -> dict[str, list[torch.Tensor]]:
    """Features of the first teacher, made fast with ``options``."""
    block = copy.deepcopy(config.distill)
    teacher = next(iter(block.teachers.values())) if 'teachers' in block else block.teacher
    teacher.inference = options
    student = build_model(config, 'model')
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    teachers = attach_distiller(student, read_block(block)).teachers
    teachers.prepare()
    prepared: Any = student.data_preprocessor
    # As in a validation: in training, augmentations of whole batches would differ from one teacher to the next.
    batch = prepared.to(device)(copy.deepcopy(data), False)
    return next(iter(teachers.values())).features(batch['inputs'], batch['data_samples'])


def alignment(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean correlation of the channels; dead ones, which are constant in both, do not count."""
    z, t = (standardize(x.double(), eps=0) for x in (a, b))
    alive = t.abs().amax([d for d in range(t.dim()) if d != channel_dim(t)]) > 0
    return float(correlation(z, t)[alive].mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0], parents=[parser_for('train')],
                                     usage='compare_teacher.py CONFIG [--teacher CONFIG] [...]')
    parser.add_argument('config', help='a path or a model zoo name (mmdet::...)')
    parser.add_argument('--images', type=int, default=8, help='of the validation set, in one batch')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='as for train.py')
    args = parser.parse_args(argv)
    config = distilled_config(config_path(args.config, 'config'), args, sys.argv[1:] if argv is None else argv)
    loader = {**without_workers(config.val_dataloader), 'batch_size': args.images}
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        data = next(iter(Runner.build_dataloader(loader)))
    expected = features(config, PLAIN, data)
    rows, least = [], 1.0
    for name, options in WAYS.items():
        got = features(config, {**PLAIN, **options}, data)
        levels = [alignment(x, y) for path in expected for x, y in zip(got[path], expected[path])]
        least = min(least, *levels)
        rows.append((name, *(f'{level:.6f}' for level in levels)))
    print(text_table([('teacher', *(f'{path}[{i}]' for path in expected for i in range(len(expected[path])))), *rows]))
    if least < LEAST:
        raise SystemExit(f'an alignment of {least:.6f} is below {LEAST}')


if __name__ == '__main__':
    try:
        main()
    except MMSRDError as e:
        raise SystemExit(f'{type(e).__name__}: {e}') from None
