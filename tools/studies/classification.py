#!/usr/bin/env python
"""Classification study: KL, SRD, its ablation and three teacher sizes on Fashion-MNIST and digits; Tiny-ImageNet.

Each training is ``tools/train.py`` on a config of ``configs/mmpretrain``; rows
differ in the losses, as the options in their records show. Results are recorded in
``docs/results/classification.jsonl``, and what is recorded is not run again. ``--parts tiny_imagenet --data DIR`` wants
an archive of photographs (``configs/photographs``).
"""
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import photographs
from runs import Job, markdown, spread
from study import ALONE, TEACHER, Choice, Shown, Study
from tables import alignment, by_seed, gains

FOLDER = 'configs/mmpretrain'
METRIC = 'accuracy/top1'


@dataclass(frozen=True)
class Part:
    """One student and one teacher on one data set."""

    title: str  # in the table
    folder: str  # of the configs
    student: str  # config of the student alone
    teacher: str  # config of the teacher
    epoch: int  # epoch whose checkpoint teaches
    rows: dict[str, tuple[str, ...]]  # rows beside the student alone
    of: str = ''  # the data set under which teacher and student alone are recorded where others share them


def _feature(**changes: Any) -> tuple[str, ...]:
    """Options of SRD alone with some arguments changed."""
    return (NO_KL, *(f'distill.losses.feature.{key.replace("__", ".")}={value}' for key, value in changes.items()))


def replaced(kind: str, **options: Any) -> tuple[str, ...]:
    """Options of another loss, or of SRD with a balance, instead of the config's SRD."""
    taps = dict(type=kind, student='backbone', teacher='backbone', levels=[-1], pool=True)
    return ('distill.losses.feature._delete_=True',
            *(f'distill.losses.feature.{key.replace("__", ".")}={value}' for key, value in {**taps, **options}.items()))


NO_KL = 'distill.losses.logits.weight=0'
RECIPE: dict[str, tuple[str, ...]] = {'KL': ('distill.losses.feature.weight=0',), 'SRD': (NO_KL,), 'SRD + KL': ()}
ALPHAS: dict[str, tuple[str, ...]] = {
    'SRD, alpha 1': _feature(alpha=1.0), 'SRD, alpha 2': _feature(alpha=2.0), 'SRD, alpha 6': _feature(alpha=6.0)}
NORMS: dict[str, tuple[str, ...]] = {
    'SRD, no normalisation': _feature(norm='none'), 'SRD, L2 normalisation': _feature(norm='l2')}
ABLATION: dict[str, tuple[str, ...]] = {
    **ALPHAS, **NORMS,
    'SRD, correlation form': _feature(form='correlation'),
    'SRD, projector of 2 layers': _feature(projector__type='MLPProjector', projector__layers=2),
    'SRD, projector of 3 layers': _feature(projector__type='MLPProjector', projector__layers=3),
    'SRD, weight 1': _feature(weight=1.0),
    'SRD, weight 4': _feature(weight=4.0),
    'SRD, weight 8': _feature(weight=8.0),
}
BALANCES: dict[str, tuple[str, ...]] = {
    f'SRD, balance {balance:g}': (NO_KL, *replaced('SRDLoss', alpha=4.0, balance=balance))
    for balance in (0.3, 1.0, 3.0)}
OTHERS = {'PKD': 'PKDLoss', 'MSE': 'FeatureMSELoss', 'VkD': 'VkDLoss'}
# As published for ImageNet.
DIST = 'distill.losses.logits.type=DISTLoss', 'distill.losses.logits.weight=2'
RELATIONS: dict[str, tuple[str, ...]] = {'DIST': ('distill.losses.feature.weight=0', *DIST), 'SRD + DIST': DIST}
VKD = {'projector__type': 'OrthogonalProjector'}
COMPARED: dict[str, tuple[str, ...]] = {
    f'{name}, {key} 1': (NO_KL, *replaced(kind, **{key: 1.0}, **(VKD if name == 'VkD' else {})))
    for name, kind in OTHERS.items() for key in ('weight', 'balance')}
# Without a projector the widths must agree: the student's last stage is as wide as the teacher's here.
PROJECTOR = {'SRD': RECIPE['SRD'], 'SRD, no projector': _feature(projector=None)}
PARTS = {
    'fashion_mnist': Part('Fashion-MNIST, 1,000 labels', 'fashion_mnist', 'resnet8_fashion-mnist-1k',
                          'resnet20_fashion-mnist', 5, {**RECIPE, **BALANCES}),
    'fashion_mnist_full': Part('Fashion-MNIST, 60,000 labels', 'fashion_mnist', 'resnet8_fashion-mnist',
                               'resnet20_fashion-mnist', 5, RECIPE, 'fashion_mnist'),
    'digits': Part('digits, 100 labels', 'digits', 'resnet8_digits-100', 'resnet20_digits', 30,
                   {**RECIPE, **BALANCES, **COMPARED, **RELATIONS, **ABLATION}),
    'digits_wide': Part('digits, 100 labels, last stage of 64', 'digits', 'resnet8-64_digits-100', 'resnet20_digits',
                        30, PROJECTOR, 'digits'),
    'digits_small_teacher': Part('digits, 100 labels, from ResNet-8', 'digits', 'resnet8_digits-100',
                                 'resnet8_digits', 30, {'SRD': RECIPE['SRD'], **ALPHAS}, 'digits'),
    'digits_large_teacher': Part('digits, 100 labels, from ResNet-20 x2', 'digits', 'resnet8_digits-100',
                                 'resnet20x2_digits', 30, {'SRD': RECIPE['SRD'], **ALPHAS}, 'digits'),
    'tiny_imagenet': Part('Tiny-ImageNet, 40 classes, ResNet-8', 'tiny_imagenet_40', 'resnet8_tiny-imagenet-40',
                          'lite0_tiny-imagenet-40', 2, RECIPE),
    'tiny_imagenet_mobilenet': Part('Tiny-ImageNet, 40 classes, MobileNetV2', 'tiny_imagenet_40',
                                    'mobilenet-v2_tiny-imagenet-40', 'lite0_tiny-imagenet-40', 2, RECIPE,
                                    'tiny_imagenet'),
}
PHOTOGRAPHS = {name: part for name, part in PARTS.items() if part.folder == 'tiny_imagenet_40'}
"""Parts whose images are not composed or packaged: see ``--data``."""
ROWS = list(dict.fromkeys(row for part in PARTS.values() for row in (ALONE, *part.rows)))
SMOKE = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1',
         'train_dataloader.batch_size=10')


def _options(choice: Choice) -> tuple[str, ...]:
    return *(SMOKE if choice.smoke else ()), *choice.options


def home(name: str, config: str | None = None) -> str:
    """Data set under which a model, by default the student alone, is recorded: that of the part whose own it is."""
    shared, config = PARTS[name].of, config or PARTS[name].student
    return shared if shared and config in (PARTS[shared].student, PARTS[shared].teacher) else name


def students(choice: Choice) -> list[Job]:
    """Students, row by row."""
    jobs = []
    for name in choice.parts:
        part = PARTS[name]
        common = _options(choice)
        distilled = f'{FOLDER}/{part.folder}/srd_backbone_{part.teacher.split("_")[0]}_{part.student}.py'
        if choice.has(ALONE):
            jobs += [Job(home(name), ALONE, seed, f'{FOLDER}/{part.folder}/{part.student}.py', common)
                     for seed in choice.seeds]
        for row, weights in part.rows.items():
            if choice.has(row):
                own = (*weights, f'distill.teacher.checkpoint={_checkpoint(name, choice)}', *common)
                jobs += [Job(name, row, seed, distilled, own) for seed in choice.seeds]
    return list(dict.fromkeys(jobs))


def _checkpoint(name: str, choice: Choice) -> Path:
    part = PARTS[name]
    folder = choice.work_dir / home(name, part.teacher) / TEACHER / 'seed0'
    return folder / f'epoch_{1 if choice.smoke else part.epoch}.pth'


def teacher_of(job: Job, choice: Choice) -> tuple[Job, Path] | None:
    """Training of the one teacher of a part, and its last checkpoint."""
    if job.row == ALONE:
        return None
    part = PARTS[job.dataset]
    return (Job(home(job.dataset, part.teacher), TEACHER, 0, f'{FOLDER}/{part.folder}/{part.teacher}.py',
                _options(choice)), _checkpoint(job.dataset, choice))


def table(results: pd.DataFrame) -> str:
    """Markdown table of top-1 accuracy and alignment, a row for each part and row."""
    lines = []
    for name, part in PARTS.items():
        alone = by_seed(results, home(name), ALONE, METRIC)
        for row in (TEACHER, ALONE, *part.rows):
            values = by_seed(results, name, row, METRIC)
            if len(values):
                lines.append((part.title, row, len(values), spread(values),
                              spread(gains(values, alone), '+') if row in part.rows else '',
                              alignment(results, name, row, 'feature') if row.startswith('SRD') else ''))
    return markdown(('data', 'training', 'seeds', 'top-1 (%)', 'over alone', 'alignment'), lines)


def prepare(choice: Choice) -> None:
    """Unpack photographs and convert the teacher's ImageNet weights where a chosen part wants them."""
    if not {*choice.parts} & {*PHOTOGRAPHS}:
        return
    photographs.unpack('tiny_imagenet_40', ARGS.data)
    if not (weights := Path('data/efficientnet_lite0.pth')).is_file():
        photographs.convert_weights('efficientnet_lite0', weights, ARGS.data)


STUDY = Study('classification', Path(FOLDER) / 'README.md', {name: name not in PHOTOGRAPHS for name in PARTS}, ROWS,
              (0, 1, 2, 3, 4), students, teacher_of, table,
              Shown('SRD + KL', METRIC, 1, 'Image Classification', 'Top 1 Accuracy'), prepare)
ARGS = argparse.Namespace(data=None)

if __name__ == '__main__':
    ARGS.data, others = photographs.data_folder()
    STUDY.main(__doc__, others)
