"""Shared fixtures: a tiny COCO-format set, tiny detectors, a teacher with weights, runners over them."""
from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, DefaultScope

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # read when Triton is imported, by whichever test comes first

import mmsrd  # noqa: F401  before mmdet: it stands in for mmcv's compiled operators

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tools'), str(ROOT / 'tools' / 'reliability')]
from tiny import build_detector as build  # noqa: E402
from tiny import compose_set, tiny_student, tiny_teacher  # noqa: E402

torch.set_num_threads(1)  # two test processes share two cores


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
