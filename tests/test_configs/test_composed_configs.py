"""The configs of the detection study: every pair is distilled, in both sizes."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from tiny import build_detector

import mmsrd

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'composed'
NAMES = sorted(path.stem for path in FOLDER.glob('srd_*.py'))


def test_the_configs_are_there():
    assert len(NAMES) == 16


# The networks of the full setting take a few seconds each.
@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.slow] if name.endswith('_256') else [])
                                  for name in NAMES])
def test_levels_agree_and_have_a_loss(name, batch, monkeypatch):
    monkeypatch.chdir(FOLDER.parent.parent)
    config = Config.fromfile(str(FOLDER / f'{name}.py'))
    teacher = Config.fromfile(config.distill.teacher.config)
    checkpoint = config.distill.teacher.checkpoint
    # The checkpoint is the one that the teacher's own config leaves.
    assert checkpoint == (f'work_dirs/{Path(config.distill.teacher.config).stem}/'
                          f'iter_{teacher.train_cfg.max_iters}.pth')
    assert teacher.default_hooks.checkpoint.interval == teacher.train_cfg.max_iters
    for trained in (teacher, config):
        assert trained.param_scheduler[-1].end == trained.train_cfg.max_iters
    student = build_detector(config.model)
    config.distill.teacher.update(checkpoint=None, allow_random=True)
    distiller = mmsrd.attach(student, config.distill)
    assert [(p.student, p.teacher) for p in distiller.losses['neck'].pairs] == [(0, 0), (1, 1), (2, 2)]
    assert all(p.strides[0] == p.strides[1] for p in distiller.losses['neck'].pairs)
    arguments = batch(student)
    for sample in arguments['data_samples']:  # of a set without masks
        ink = np.ones((len(sample.gt_instances), *arguments['inputs'].shape[-2:]), dtype=np.uint8)
        sample.gt_instances.masks = BitmapMasks(ink, *ink.shape[1:])
    losses = student(**arguments)
    loss = float(losses['loss_srd_neck'].detach())
    assert 1 < loss < 2.48 + 1  # near log 12 for unrelated features, and few rows
