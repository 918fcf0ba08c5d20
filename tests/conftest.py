"""Shared fixtures: a tiny COCO-format set, tiny detectors, a teacher with weights, runners over them."""
from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS, DefaultScope

import mmsrd  # noqa: F401  before mmdet: it stands in for mmcv's compiled operators

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))
from compose_digits import SceneConfig, compose  # noqa: E402

torch.set_num_threads(1)  # two test processes share two cores


@pytest.fixture(scope='session')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-format set of 8 training and 4 validation images of 64×64."""
    folder = tmp_path_factory.mktemp('coco')
    compose(folder, 8, 4, SceneConfig(size=64, digits=(1, 3), digit_size=(16, 28), strokes=2))
    return folder


def build(model_config: Any) -> torch.nn.Module:
    """Build an mmdet model from its config."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(model_config))


@pytest.fixture(scope='session')
def student_config(coco: Path) -> Config:
    """FCOS of width 8 on the tiny set: two epochs of four iterations, no randomness in the pipeline."""
    config = Config.fromfile(str(ROOT / 'configs/quickstart/fcos_digits_student.py'))
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


@pytest.fixture(scope='session')
def teacher_config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Config file of a teacher with other channel widths than the student's."""
    path = tmp_path_factory.mktemp('teacher') / 'teacher.py'
    Config.fromfile(str(ROOT / 'configs/quickstart/fcos_digits_teacher.py')).dump(str(path))
    return str(path)


@pytest.fixture(scope='session')
def teacher_checkpoint(teacher_config: str) -> str:
    """Weights for it: random, but the same in all tests."""
    path = Path(teacher_config).with_name('teacher.pth')
    torch.manual_seed(7)
    torch.save(dict(state_dict=build(Config.fromfile(teacher_config).model).state_dict()), path)
    return str(path)


@pytest.fixture
def distill(teacher_config: str, teacher_checkpoint: str) -> dict[str, Any]:
    """A ``distill`` block for the tiny pair."""
    return dict(teacher=dict(config=teacher_config, checkpoint=teacher_checkpoint),
                losses=dict(neck=dict(type='SRDLoss', student='neck', teacher='neck', weight=2.0)))


@pytest.fixture
def make_runner(student_config: Config, tmp_path: Path) -> Callable[..., Any]:
    """Build a runner: ``make_runner(name, distill_block_or_None, **overrides)``; dots reach into the config."""

    def make(name: str, distill: dict[str, Any] | None = None, **overrides: Any) -> Any:
        config = copy.deepcopy(student_config)
        config.work_dir = str(tmp_path / name)
        config.experiment_name = f'{tmp_path.name}-{name}'
        config.visualizer.name = config.experiment_name  # visualizers are global by name
        if distill is not None:
            config.runner_type = 'mmsrd.DistillRunner'
            config.distill = copy.deepcopy(distill)
        config.merge_from_dict(overrides)
        return RUNNERS.build(config)

    return make


@pytest.fixture
def batch(student_config: Config) -> Callable[[torch.nn.Module], dict[str, Any]]:
    """The first two training images, preprocessed for a model: arguments of its forward."""

    def prepare(model: torch.nn.Module, **replace: Any) -> dict[str, Any]:
        from mmengine.runner import Runner
        with DefaultScope.overwrite_default_scope('mmdet'):
            loader = Runner.build_dataloader(copy.deepcopy(student_config.val_dataloader)
                                             | dict(dataset=copy.deepcopy(student_config.train_dataloader.dataset)))
        return {**model.data_preprocessor(next(iter(loader)), True), 'mode': 'loss', **replace}

    return prepare


@pytest.fixture
def student(student_config: Config) -> torch.nn.Module:
    """The tiny student, seeded and initialised."""
    torch.manual_seed(0)
    model = build(student_config.model)
    model.init_weights()
    return model
