"""A classifier trained through the stock scripts of MMPretrain on images in folders."""
from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
from helpers.processes import ROOT, python
from sklearn.datasets import load_digits

from mmsrd.utils.zoo import package_files

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3,
                                                   num_classes=2),
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels={width}, stem_channels={width}, num_stages=3,
                  out_indices=(2,), strides=(1, 2, 2), dilations=(1, 1, 1), style='pytorch'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels={features}, loss=dict(type='CrossEntropyLoss')))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root={data!r}, pipeline=pipeline))
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root={data!r}, pipeline=pipeline))
val_evaluator = dict(type='Accuracy', topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=False)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of digits in folders; configs of a student and a teacher with weights."""
    digits = load_digits()
    for label in (0, 1):
        (tmp_path / 'data' / str(label)).mkdir(parents=True)
        for i, image in enumerate(digits.images[digits.target == label][:12]):
            cv2.imwrite(str(tmp_path / 'data' / str(label) / f'{i}.png'), image * 15)
    for name, width in (('student', 4), ('teacher', 8)):
        (tmp_path / f'{name}.py').write_text(
            CONFIG.format(width=width, features=4 * width, data=str(tmp_path / 'data')))
    train(package_files('mmpretrain') / 'tools' / 'train.py', tmp_path / 'teacher.py', cwd=tmp_path)
    return tmp_path


def train(*arguments: str | Path, cwd: Path) -> str:
    """Run a training script; its output."""
    done = python('-m', 'mmsrd', *arguments, cwd=cwd)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_stock_and_own_script_train_the_same_student(folder):
    teacher = dict(config=str(folder / 'teacher.py'),
                   checkpoint=str(folder / 'work_dirs' / 'teacher' / 'epoch_2.pth'))
    (folder / 'distilled.py').write_text(
        f"_base_ = './student.py'\nrunner_type = 'mmsrd.DistillRunner'\ndistill = dict(teacher={teacher!r})\n")
    text = train(package_files('mmpretrain') / 'tools' / 'train.py', folder / 'distilled.py', cwd=folder)
    assert 'loss_srd_logits' in text
    assert 'srd_alignment_feature' in text
    train(ROOT / 'tools' / 'train.py', folder / 'student.py', '--teacher', teacher['config'],
          '--teacher-checkpoint', teacher['checkpoint'], cwd=folder)
    a, b = (torch.load(folder / 'work_dirs' / name / 'epoch_2.pth') for name in ('distilled', 'student'))
    assert all(torch.equal(a['state_dict'][k], b['state_dict'][k]) for k in a['state_dict'])
    assert list(a['distiller']['state_dict']) == ['losses.feature.projectors.0.weight']
    # MMPretrain's own API takes the file.
    from mmpretrain import get_model
    model = get_model(str(folder / 'student.py'), pretrained=str(folder / 'work_dirs' / 'distilled' / 'epoch_2.pth'))
    assert torch.equal(model.backbone.conv1.weight, a['state_dict']['backbone.conv1.weight'])
