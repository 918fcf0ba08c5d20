"""A detector, a teacher and a data set so small that whole trainings take seconds."""
from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmsrd  # noqa: F401  stands in for mmcv's compiled operators

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools'))
from compose_digits import SceneConfig, compose

STUDENT = ROOT / 'configs/quickstart/fcos_digits_student.py'
TEACHER = ROOT / 'configs/quickstart/fcos_digits_teacher.py'


def compose_set(folder: Path) -> Path:
    """A COCO-format set of 8 training and 4 validation images of 64×64."""
    compose(folder, 8, 4, SceneConfig(size=64, digits=(1, 3), digit_size=(16, 28), strokes=2))
    return folder


def tiny_student(coco: Path) -> Config:
    """FCOS of width 8 on the tiny set: two epochs of four iterations, no randomness in the pipeline."""
    config = Config.fromfile(str(STUDENT))
    for name in ('train', 'val', 'test'):
        loader = config[f'{name}_dataloader']
        loader.batch_size = 2
        loader.dataset.data_root = f'{coco}/'
    for name in ('val', 'test'):
        config[f'{name}_dataloader'].dataset.pipeline[1].scale = (64, 64)
        config[f'{name}_evaluator'].ann_file = f'{coco}/annotations/val.json'
    config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
    config.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)]
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=True)
    config.default_hooks.logger.interval = 1
    config.log_processor = dict(type='LogProcessor', window_size=1, by_epoch=True)
    config.log_level = 'WARNING'
    config.model.test_cfg.score_thr = 0.0  # so that barely trained students have results to evaluate
    return config


def build_detector(model_config: Any) -> torch.nn.Module:
    """Build an mmdet model from its config."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model: torch.nn.Module = MODELS.build(copy.deepcopy(model_config))
    return model


def tiny_teacher(folder: Path) -> tuple[str, str]:
    """Config file of a teacher with other channel widths than the student's, and weights: random, always the same."""
    config, checkpoint = folder / 'teacher.py', folder / 'teacher.pth'
    loaded = Config.fromfile(str(TEACHER))
    loaded.dump(str(config))
    torch.manual_seed(7)
    torch.save(dict(state_dict=build_detector(loaded.model).state_dict()), checkpoint)
    return str(config), str(checkpoint)
