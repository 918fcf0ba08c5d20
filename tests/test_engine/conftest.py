"""A teacher that is good at something."""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from helpers import knowing  # noqa: F401  registers a model
from mmengine.config import Config


@pytest.fixture
def teacher(student_config: Config, make_runner: Callable[..., Any], coco: Path,
            tmp_path: Path) -> tuple[dict[str, Any], Any]:
    """``distill.teacher`` of a model with the student's classes that knows some of the boxes, and its runner."""
    config = copy.deepcopy(student_config)
    config.model.update(type='KnowingFCOS', answers=str(coco / 'annotations/val.json'))
    config.custom_imports = dict(imports=['helpers.knowing'], allow_failed_imports=False)
    config.dump(str(tmp_path / 'knowing.py'))
    runner = make_runner('teacher', **{'model.type': 'KnowingFCOS', 'model.answers': config.model.answers})
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(dict(state_dict=runner.model.state_dict(), meta=meta), tmp_path / 'knowing.pth')
    return dict(config=str(tmp_path / 'knowing.py'), checkpoint=str(tmp_path / 'knowing.pth')), runner
