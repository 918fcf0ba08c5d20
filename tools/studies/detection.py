#!/usr/bin/env python
"""Detection study: SRD, its ablation, PKD and squared error on composed digit scenes, three seeds.

Each training is ``tools/train.py`` on a config of ``configs/composed``; rows
differ in the ``distill.losses`` block, which the record of a training shows
whole, and where they say so in optimizer or length. Results are recorded in
``docs/results/detection.jsonl``, and what is recorded is not run again.
"""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from detection_rows import (
    ABLATED,
    ALL_PAIRS_OF,
    CROPS,
    DEFAULT,
    INIT,
    LAST_NORMS,
    LONGER,
    MAIN,
    MASKS,
    OF_GFL,
    OPTIMIZER,
    ROWS,
    SETTINGS,
    SGD,
    TITLES,
    Setting,
    ending,
    losses_of,
)
from runs import ROOT, Job, markdown, spread
from study import ALONE, TEACHER, Choice, Shown, Study
from tables import alignment, by_seed, gains

sys.path.insert(0, str(ROOT / 'tools'))
import compose_digits
import compose_emoji
import crop_classifier
from compose_digits import SceneConfig
from compose_emoji import EmojiConfig

METRIC, MASK_METRIC = 'coco/bbox_mAP', 'coco/segm_mAP'
ALONE_ROWS = (ALONE, *(ALONE + end for end in (*LONGER, SGD)))
SMOKE = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2',
         'train_dataloader.batch_size=2',
         # Networks that have learned nothing have to find something for there to be a result.
         'model.test_cfg.score_thr=0', 'model.test_cfg.rcnn.score_thr=0')


def _options(choice: Choice, setting: Setting) -> tuple[str, ...]:
    if not choice.smoke:
        return choice.options
    data = choice.work_dir / f'data_{setting.name}'
    loaders = [f'{split}_dataloader.dataset.data_root={data}/' for split in ('train', 'val')]
    return *SMOKE, *loaders, f'val_evaluator.ann_file={data}/annotations/val.json', *choice.options


def students(choice: Choice) -> list[Job]:
    """Students, seed by seed, so that whatever has been trained at an interruption makes a table."""
    jobs = []
    for seed in choice.seeds:
        for part in choice.parts:
            size, teacher, student = _names(part)
            setting = SETTINGS[size]
            common = _options(choice, setting)
            whole = (teacher, student) == ABLATED
            jobs += [Job(f'{size}/{student}', row, seed, _config(student, setting.student, setting),
                         (*_training(row, setting), *common))
                     for row in ALONE_ROWS if choice.has(row) and (whole or row == ALONE)]
            rows = rows_of(teacher, student)
            config = f'srd_neck_{teacher}-{setting.teacher}_{student}-{setting.student}_{setting.name}.py'
            jobs += [Job(part, row, seed, f'configs/composed/{config}',
                         (*_block(row), *_weights(row, size, teacher, choice), *_training(row, setting), *common))
                     for row in rows if choice.has(row)]
    return list(dict.fromkeys(jobs))


def rows_of(teacher: str, student: str) -> list[str]:
    """Rows of a pair: all that there are for the one that is ablated, the main ones for others."""
    if (teacher, student) == ABLATED:
        return [row for row in ROWS if row not in OF_GFL]
    if student in MASKS:
        return [DEFAULT]
    return [*MAIN, *(OF_GFL if teacher == student == 'gfl' else ())]


def _names(part: str) -> tuple[str, str, str]:
    """Setting, teacher and student."""
    size, _, pair = part.partition('/')
    teacher, _, student = pair.partition('_')
    return size, teacher, student


def _config(detector: str, backbone: str, setting: Setting) -> str:
    return f'configs/composed/{detector}_{backbone}_{setting.name}.py'


def _block(row: str) -> tuple[str, ...]:
    """A row's losses, named after what they tap, instead of those that the config has."""
    named: dict[str, dict[str, Any]] = {}
    for loss in losses_of(row):
        name = loss['student'].rpartition('.')[2]
        named[name if name not in named else f'{name}_{len(named)}'] = loss
    init = ('distill.teacher.init_student=True',) if INIT in row else ()
    return (*init, 'distill.losses._delete_=True', *(f'distill.losses.{name}.{key}={value}'
                                                     for name, loss in named.items() for key, value in loss.items()))


def _training(row: str, setting: Setting) -> tuple[str, ...]:
    """Options of a row that is trained in another way than its config says."""
    if row == LAST_NORMS:
        return ('default_hooks.last_norms.type=studies.last_step_norms.LastStepNorms',)
    end = ending(row)
    if end in LONGER:
        steps = round(setting.steps[0] * LONGER[end])
        return f'train_cfg.max_iters={steps}', f'train_cfg.val_interval={steps // 4}', f'param_scheduler.1.end={steps}'
    return OPTIMIZER if end == SGD else ()


def _weights(row: str, size: str, detector: str, choice: Choice) -> tuple[str, ...]:
    """Options of the teacher."""
    if row == CROPS:
        return f'distill.teacher.config=timm::{_classifier(size, choice)}', 'distill.teacher.checkpoint=auto'
    return (f'distill.teacher.checkpoint={_checkpoint(size, detector, choice)}',)


def _classifier(size: str, choice: Choice) -> Path:
    """Folder of the classifier of objects."""
    return choice.work_dir / size / 'crop_classifier'


def _checkpoint(size: str, detector: str, choice: Choice) -> Path:
    steps = 2 if choice.smoke else SETTINGS[size].steps[1]
    return choice.work_dir / size / detector / TEACHER / 'seed0' / f'iter_{steps}.pth'


def teacher_of(job: Job, choice: Choice) -> tuple[Job, Path] | None:
    """Training of the teacher of a distilled student, and its last checkpoint."""
    if job.row in ALONE_ROWS or job.row == CROPS:
        return None
    size, detector, _ = _names(job.dataset)
    setting = SETTINGS[size]
    return (Job(f'{size}/{detector}', TEACHER, 0, _config(detector, setting.teacher, setting),
                _options(choice, setting)), _checkpoint(size, detector, choice))


def alone_of(dataset: str, row: str) -> tuple[str, str]:
    """Data set and row of the student alone that a row is compared with."""
    size, _, student = _names(dataset)
    return f'{size}/{student}', ALONE + ending(row)


def table(results: pd.DataFrame) -> str:
    """Markdown table of box AP, mask AP and alignment, a row for each setting, pair and loss."""
    shown = [(size, TITLES[name], f'{size}/{name}', row)
             for size in SETTINGS for name in TITLES for row in (TEACHER, *ALONE_ROWS)]
    shown += [(size, f'{TITLES[teacher]} → {TITLES[student]}', f'{size}/{teacher}_{student}', row)
              for size in SETTINGS for teacher, student in ALL_PAIRS_OF[size] for row in ROWS]
    lines = []
    for size, title, dataset, row in sorted(shown, key=lambda line: list(SETTINGS).index(line[0])):
        values, distilled = by_seed(results, dataset, row, METRIC), row in ROWS
        masks, alone = by_seed(results, dataset, row, MASK_METRIC), alone_of(dataset, row)
        if len(values):
            lines.append((
                size, title, row, len(values), spread(100 * values, digits=1),
                spread(100 * gains(values, by_seed(results, *alone, METRIC)), '+', 1) if distilled else '',
                spread(100 * by_seed(results, dataset, row, f'{METRIC}_50'), digits=1),
                spread(100 * masks, digits=1) if len(masks) else '',
                spread(100 * gains(masks, by_seed(results, *alone, MASK_METRIC)), '+', 1)
                if distilled and len(masks) else '',
                alignment(results, dataset, row, losses_of(row)[0]['student']) if distilled else ''))
    return markdown(('setting', 'teacher → student', 'training', 'seeds', 'mAP (%)', 'over alone', 'mAP50 (%)',
                     'masks, mAP (%)', 'over alone', 'alignment'), lines)


def prepare(choice: Choice) -> None:
    """Compose the images of the chosen settings, and train the classifier of their objects, unless they are there."""
    for size in dict.fromkeys(_names(part)[0] for part in choice.parts):
        setting = SETTINGS[size]
        folder, images = (choice.work_dir, (4, 2)) if choice.smoke else (Path('data'), setting.images)
        out = folder / (f'data_{setting.name}' if choice.smoke else f'composed_{setting.name}')
        if size == 'emoji':
            compose_emoji.compose(out, *images, EmojiConfig(setting.side, setting.objects, setting.object_size))
        else:
            compose_digits.compose(out, *images, SceneConfig(setting.side, setting.objects, setting.object_size))
        whole = any(_names(part) == (size, *ABLATED) for part in choice.parts)
        if choice.has(CROPS) and whole and not (_classifier(size, choice) / 'result.json').is_file():
            crop_classifier.train(out, _classifier(size, choice), *((64, 1) if choice.smoke else (6000, 5)))


PARTS = {f'{size}/{teacher}_{student}': size == 'reduced' for size in SETTINGS
         for teacher, student in ALL_PAIRS_OF[size]}
STUDY = Study('detection', Path('configs/composed/README.md'), PARTS, [*ALONE_ROWS, *ROWS], (0, 1, 2), students,
              teacher_of, table, Shown(DEFAULT, METRIC, 100, 'Object Detection', 'box AP'), prepare)

if __name__ == '__main__':
    STUDY.main(__doc__)
