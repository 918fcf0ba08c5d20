#!/usr/bin/env python
"""COCO study: the pairs of ``configs/detection`` alone, with SRD, PKD, feature MSE and VkD; for GPUs.

Needs COCO in ``data/coco``, as MMDetection does; teachers come from the model zoo. ``--dry-run`` says what the chosen
trainings would take. Call the command again after an interruption: trainings go on from their last checkpoint. Results
are recorded in ``docs/results/coco.jsonl``, and the tables of ``configs/detection`` are made from them.
"""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

import pandas as pd
from estimate import estimate
from runs import ROOT, Job
from study import ALONE, ON_GPUS, UNDISTILLED, UNTAUGHT, Choice, Shown, Study
from tables import wide_table

FOLDER = Path('configs/detection')
METRIC = 'coco/bbox_mAP'
SHAPE = 800, 1344
IMAGES = 117_266  # of train2017, with annotations
SCHEDULES = {'1x': (12, [8, 11]), '2x': (24, [16, 22])}
"""Schedule → epochs, and those after which the learning rate falls."""


def _instead(kind: str, **loss: Any) -> dict[str, Any]:
    """Another loss with all else as the preset has it: balance, levels, and how the student starts."""
    loss = dict(type=kind, student='neck', teacher='neck', levels='stride', balance=1.0, **loss)
    return {'teacher.init_student': True, **{f'losses.neck.{key}': value for key, value in loss.items()}}


ROWS: dict[str, dict[str, Any] | None] = {
    ALONE: None,
    'SRD': {},  # what the preset chooses
    'SRD, init_student=False': {'teacher.init_student': False},
    'PKD': _instead('PKDLoss', projector=None),
    'MSE': _instead('FeatureMSELoss'),
    'VkD': _instead('VkDLoss', **{'projector.type': 'OrthogonalProjector'}),
}
"""Row → its options of the ``distill`` block."""
BY_DEFAULT = ('faster-rcnn-r101_faster-rcnn-r50_1x', 'retinanet-r101_retinanet-r50_2x')


def _parts() -> dict[str, tuple[Path, str]]:
    """Pair and schedule → config, and the schedule if it is not the config's own."""
    parts = {}
    for path in sorted((ROOT / FOLDER).glob('srd_*.py')):
        *pair, own, _ = path.stem.split('_')
        for schedule in SCHEDULES if own in SCHEDULES else [own]:
            parts['_'.join([*pair[2:], schedule])] = FOLDER / path.name, schedule if schedule != own else ''
    return parts


PARTS = _parts()


def students(choice: Choice) -> list[Job]:
    """Students, seed by seed."""
    return [Job(part, row, seed, str(PARTS[part][0]), (*_block(row), *_schedule(part), *_options(choice, row)))
            for seed in choice.seeds for part in choice.parts for row in ROWS if choice.has(row)]


def _block(row: str) -> tuple[str, ...]:
    options = ROWS[row]
    if options is None:
        return UNDISTILLED
    return tuple(f'distill.{key}={value}' for key, value in options.items())


def _schedule(part: str) -> tuple[str, ...]:
    schedule = PARTS[part][1]
    if not schedule:
        return ()
    epochs, milestones = SCHEDULES[schedule]
    return (f'train_cfg.max_epochs={epochs}', f'param_scheduler.1.end={epochs}',
            f'param_scheduler.1.milestones=[{",".join(map(str, milestones))}]')


def _options(choice: Choice, row: str) -> tuple[str, ...]:
    common = *ON_GPUS, *choice.options
    if not choice.smoke:
        return common
    # As far as it goes without the network: nothing is downloaded.
    no_teacher = () if ROWS[row] is None else UNTAUGHT
    return ('model.backbone.init_cfg=None', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2',
            'train_dataloader.dataset.indices=4', 'val_dataloader.dataset.indices=2',
            'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False', *no_teacher, *common)


def table(results: pd.DataFrame) -> str:
    """Markdown table of box AP, a row for each pair with its config's schedule, and for others that are recorded."""
    shown = {part: ROWS for part, (_, changed) in PARTS.items()
             if not changed or part in results.index}
    return wide_table(results, 'pair and schedule', shown, list(ROWS), METRIC, 100, 1)


def cost(jobs: Sequence[Job], choice: Choice) -> str:
    """GPU hours and disk of these trainings."""
    return estimate(jobs, IMAGES, SHAPE)


STUDY = Study('coco', FOLDER / 'README.md', {part: part in BY_DEFAULT for part in PARTS}, list(ROWS), (0, 1, 2),
              students, lambda job, choice: None, table, Shown('SRD', METRIC, 100, 'Object Detection', 'box AP'),
              as_configured=lambda job: not PARTS[job.dataset][1], for_gpus=True, estimate=cost)

SUBSET = '--subset'
"""Instead of all that: the rows of ``real.py`` on its subset of COCO, which is made of ``data/coco``."""

if __name__ == '__main__':
    if SUBSET in sys.argv:
        others = [argument for argument in sys.argv[1:] if argument != SUBSET]
        sys.exit(subprocess.run([sys.executable, str(ROOT / 'tools/studies/real.py'), '--data', str(ROOT / 'data/coco'),
                                 '--parts', 'coco/yolox-nano_r18w16', *others], check=False).returncode)
    STUDY.main(__doc__)
