"""Shared fixtures: a tiny COCO-format set, tiny detectors, a teacher with weights, runners over them."""
from __future__ import annotations

import copy
import gc
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.registry import RUNNERS, DefaultScope

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # read when Triton is imported, by whichever test comes first

import mmsrd  # noqa: F401  before mmdet: it stands in for mmcv's compiled operators

ROOT = Path(__file__).resolve().parents[1]
from helpers.processes import run
from prepare_data import digits as write_digits
from tiny import build_detector as build
from tiny import compose_set, tiny_student, tiny_teacher

torch.set_num_threads(1)  # two test processes share two cores
# MMEngine formats a config at each start and with each checkpoint, half a second every time; its layout is not tested.
mmengine_config.FormatCode = lambda text, **style: (text, True)


def pytest_collection_finish() -> None:
    """MMEngine collects garbage for each dataset: a third of a second where the toolboxes' objects are looked at."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-format set of 8 training and 4 validation images of 64×64."""
    return compose_set(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='session')
def student_config(coco: Path) -> Config:
    """FCOS of width 8 on the tiny set: two epochs of four iterations, no randomness in the pipeline."""
    return tiny_student(coco)


@pytest.fixture(scope='session')
def teacher_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Config and checkpoint of a teacher with other channel widths than the student's."""
    return tiny_teacher(tmp_path_factory.mktemp('teacher'))


@pytest.fixture(scope='session')
def teacher_config(teacher_files: tuple[str, str]) -> str:
    """Config file of the tiny teacher."""
    return teacher_files[0]


@pytest.fixture(scope='session')
def teacher_checkpoint(teacher_files: tuple[str, str]) -> str:
    """Weights for it: random, but the same in all tests."""
    return teacher_files[1]


@pytest.fixture
def distill(teacher_config: str, teacher_checkpoint: str) -> dict[str, Any]:
    """A ``distill`` block for the tiny pair."""
    return dict(teacher=dict(config=teacher_config, checkpoint=teacher_checkpoint, check=False),
                losses=dict(neck=dict(type='SRDLoss', student='neck', teacher='neck', weight=2.0)), report=False)


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
        config.merge_from_dict(copy.deepcopy(overrides))
        return RUNNERS.build(config)

    return make


@pytest.fixture
def batch(student_config: Config) -> Callable[[torch.nn.Module], dict[str, Any]]:
    """The first two training images, preprocessed for a model: arguments of its forward."""

    def prepare(model: torch.nn.Module, **replace: Any) -> dict[str, Any]:
        from mmengine.runner import Runner
        with DefaultScope.overwrite_default_scope('mmdet'):
            loader = Runner.build_dataloader({**copy.deepcopy(student_config.val_dataloader),
                                              'dataset': copy.deepcopy(student_config.train_dataloader.dataset)})
        return {**model.data_preprocessor(next(iter(loader)), True), 'mode': 'loss', **replace}

    return prepare


@pytest.fixture
def student(student_config: Config) -> torch.nn.Module:
    """The tiny student, seeded and initialised."""
    torch.manual_seed(0)
    model = build(student_config.model)
    model.init_weights()
    return model


DIGITS = ROOT / 'configs' / 'mmpretrain' / 'digits'


def _save_teacher(config: Config, folder: Path, scope: str) -> dict[str, str]:
    """Write a teacher's config, and weights for it: random, but the same in all tests."""
    config.dump(str(folder / 'teacher.py'))
    torch.manual_seed(3)
    model = build(dict(config.model, _scope_=scope, data_preprocessor=config.data_preprocessor))
    torch.save(dict(state_dict=model.state_dict()), folder / 'teacher.pth')
    return dict(config=str(folder / 'teacher.py'), checkpoint=str(folder / 'teacher.pth'))


@pytest.fixture(scope='session')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits of 8×8 pixels in folders by split and class."""
    folder = tmp_path_factory.mktemp('data') / 'digits'
    assert write_digits(folder) == 1797
    return folder


@pytest.fixture(scope='session')
def classifier_teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A teacher of digits that takes RGB pixels with statistics of its own, where the student takes BGR."""
    config = Config.fromfile(str(DIGITS / 'resnet20_digits.py'))
    config.data_preprocessor = dict(type='ClsDataPreprocessor', mean=[10.0, 60.0, 110.0], std=[50.0, 60.0, 70.0],
                                    to_rgb=True, num_classes=10)
    return _save_teacher(config, tmp_path_factory.mktemp('classifier_teacher'), 'mmpretrain')


@pytest.fixture
def make_classifier_runner(digits: Path, classifier_teacher: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """``make(name, weight_or_None, **overrides)``: two epochs of four iterations with crops."""

    def make(name: str, weight: float | None = None, **overrides: Any) -> Any:
        path = 'resnet8_digits-100.py' if weight is None else 'srd_backbone_resnet20_resnet8_digits-100.py'
        config = Config.fromfile(str(DIGITS / path))
        config.train_dataloader.batch_size = 25
        config.train_dataloader.dataset.data_root = str(digits / 'train')
        for key in ('val', 'test'):
            config[f'{key}_dataloader'].dataset.data_root = str(digits / 'val')
        config.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=5)
        config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
        config.custom_hooks = []
        config.work_dir = str(tmp_path / name)
        config.log_level = 'ERROR'
        config.experiment_name = config.visualizer.name = f'{tmp_path.name}-{name}'
        if weight is not None:
            config.distill.teacher = dict(classifier_teacher, check=False)
            config.distill.report = False
            config.distill.losses.feature.weight = 2.0 * weight
            config.distill.losses.logits.weight = weight
        config.merge_from_dict(copy.deepcopy(overrides))
        return RUNNERS.build(config)

    return make


@pytest.fixture(scope='session')
def both_toolboxes(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Data and teachers of both toolboxes in one folder, for scripts in processes of their own."""
    folder = tmp_path_factory.mktemp('both_toolboxes')
    compose_set(folder / 'coco')
    (folder / 'digits').symlink_to(digits)
    for toolbox in ('mmdet', 'mmpretrain'):
        (folder / toolbox).mkdir()
    tiny_teacher(folder / 'mmdet')
    _save_teacher(Config.fromfile(str(DIGITS / 'resnet20_digits.py')), folder / 'mmpretrain', 'mmpretrain')
    return folder


@pytest.fixture(scope='session')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp('wheel')
    left_out = shutil.ignore_patterns('.*', 'work_dirs', 'data', '*.egg-info', 'build', '__pycache__')
    shutil.copytree(ROOT, folder / 'source', ignore=left_out)
    run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-w', folder / 'dist',
        folder / 'source', cwd=folder)
    found, = (folder / 'dist').glob('mmsrd-*.whl')
    return found
