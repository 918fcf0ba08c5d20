#!/usr/bin/env python
"""ImageNet and CIFAR-100 study: the pairs of ``configs/mmpretrain`` alone, with KL, SRD, both, and VkD; for GPUs.

Needs ImageNet in ``data/imagenet``, as MMPretrain does; CIFAR-100 is downloaded. Teachers come from the model zoo, and
for CIFAR-100 are trained first. ``--dry-run`` says what the chosen trainings on ImageNet would take. Call the command
again after an interruption: trainings go on from their last checkpoint. Results are recorded in
``docs/results/large_classifiers.jsonl``, and the table in ``configs/mmpretrain/README.md`` is made from them.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import pandas as pd
from classification import FOLDER, METRIC, RECIPE, replaced
from estimate import estimate
from runs import ROOT, Job
from study import ALONE, ON_GPUS, TEACHER, UNDISTILLED, UNTAUGHT, Choice, Shown, Study
from tables import wide_table

VKD = 'VkD + KL'
# The losses of the configs' block, or others: the whole recipe is SRD + KL.
REPLACED = replaced('VkDLoss', projector__type='OrthogonalProjector')
ROWS = (ALONE, *RECIPE, VKD)
IMAGES = 1_281_167  # of ImageNet
SHAPE = 224, 224


@dataclass(frozen=True)
class Pair:
    """One student and one teacher."""

    config: str  # config with the block
    teacher: str = ''  # config of a teacher to be trained first; empty for weights from the model zoo
    rows: tuple[str, ...] = ROWS  # rows of the table


def _pairs() -> dict[str, Pair]:
    name = 'srd_backbone_{}_in1k.py'
    pairs = {'imagenet/resnet34_resnet18': Pair(f'{FOLDER}/imagenet/{name.format("resnet34_resnet18_100e")}')}
    for size in ('tiny', 'small'):  # the student alone has another head: see the published numbers
        pairs[f'imagenet/regnety-16gf_deit-{size}-conv'] = Pair(
            f'{FOLDER}/imagenet/{name.format(f"regnety-16gf_deit-{size}-conv_300e")}', rows=('SRD + KL', VKD))
    for path in sorted((ROOT / FOLDER / 'cifar100').glob('srd_*.py')):
        _, _, teacher, student, *_ = path.stem.split('_')
        pairs[f'cifar100/{teacher}_{student}'] = Pair(
            f'{FOLDER}/cifar100/{path.name}', f'{FOLDER}/cifar100/{teacher}_240e_cifar100.py')
    return pairs


PAIRS = _pairs()


def students(choice: Choice) -> list[Job]:
    """Students, seed by seed."""
    return [_job(part, row, seed, choice) for seed in choice.seeds for part in choice.parts for row in PAIRS[part].rows
            if choice.has(row)]


def _job(part: str, row: str, seed: int, choice: Choice) -> Job:
    pair, config = PAIRS[part], PAIRS[part].config
    options: tuple[str, ...]
    if row == ALONE:
        options = UNDISTILLED
    elif row == VKD and 'deit' in part:
        config, options = config.replace('/srd_', '/vkd_'), ()
    else:
        options = REPLACED if row == VKD else RECIPE[row]
        if pair.teacher:
            options = (*options, f'distill.teacher.checkpoint={_checkpoint(pair, choice)}')
    if choice.smoke and row != ALONE and not pair.teacher:
        options = (*options, *UNTAUGHT)
    return Job(part, row, seed, config, (*options, *_options(choice)))


def _options(choice: Choice) -> tuple[str, ...]:
    smoke = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1',
             'train_dataloader.batch_size=2', 'train_dataloader.dataset.indices=4', 'val_dataloader.batch_size=2',
             'val_dataloader.dataset.indices=4')
    return *(smoke if choice.smoke else ()), *ON_GPUS, *choice.options


def _checkpoint(pair: Pair, choice: Choice) -> Path:
    return choice.work_dir / _home(pair) / TEACHER / 'seed0' / f'epoch_{1 if choice.smoke else 240}.pth'


def _home(pair: Pair) -> str:
    """Folder of a teacher that several pairs share."""
    return f'cifar100/{Path(pair.teacher).stem.partition("_")[0]}'


def teacher_of(job: Job, choice: Choice) -> tuple[Job, Path] | None:
    """Training of the teacher of a distilled student on CIFAR-100, and its last checkpoint."""
    pair = PAIRS[job.dataset]
    if job.row == ALONE or not pair.teacher:
        return None
    return Job(_home(pair), TEACHER, 0, pair.teacher, _options(choice)), _checkpoint(pair, choice)


def table(results: pd.DataFrame) -> str:
    """Markdown table of top-1 accuracy, a row for each pair."""
    return wide_table(results, 'pair', {part: pair.rows for part, pair in PAIRS.items()}, ROWS, METRIC, 1, 2)


def cost(jobs: Sequence[Job], choice: Choice) -> str:
    """GPU hours and disk of the trainings on ImageNet; on CIFAR-100 the host is slower than networks so small."""
    large = [job for job in jobs if job.dataset.startswith('imagenet')]
    small = '' if len(large) == len(jobs) else 'CIFAR-100: not estimated\n'
    return estimate(large, IMAGES, SHAPE) + small


STUDY = Study('large_classifiers', Path(FOLDER) / 'README.md',
              {part: part == 'imagenet/resnet34_resnet18' for part in PAIRS}, ROWS, (0, 1, 2), students, teacher_of,
              table, Shown('SRD + KL', METRIC, 1, 'Image Classification', 'Top 1 Accuracy'), for_gpus=True,
              estimate=cost)

if __name__ == '__main__':
    STUDY.main(__doc__)
