"""Configs in MMEngine's pure-Python style, and every key of the block by ``--cfg-options``."""
from __future__ import annotations

import argparse
from dataclasses import MISSING, fields, is_dataclass

import pytest
import torch
from mmengine.config import Config, DictAction

import mmsrd
from mmsrd.config import DistillConfig, parse_distill
from mmsrd.config.distill_config import ReportConfig
from mmsrd.config.loss_config import LossConfig
from mmsrd.config.preemption_config import PreemptionConfig
from mmsrd.config.schedule import Schedule
from mmsrd.config.teacher_config import EMATeacherConfig, InferenceConfig, PretrainedTeacherConfig
from mmsrd.errors import ConfigError
from mmsrd.teachers import EMATeacher, PretrainedTeacher

TEACHER = """
from mmdet.models import FCOS, FPN, FCOSHead, ResNet
from mmdet.models.data_preprocessors import DetDataPreprocessor

default_scope = 'mmdet'
model = dict(
    type=FCOS, data_preprocessor=dict(type=DetDataPreprocessor, mean=[0, 0, 0], std=[255, 255, 255]),
    backbone=dict(type=ResNet, depth=18, base_channels=8, out_indices=(1, 2, 3)),
    neck=dict(type=FPN, in_channels=[16, 32, 64], out_channels=12, num_outs=3),
    bbox_head=dict(type=FCOSHead, num_classes=10, in_channels=12, feat_channels=12, norm_cfg=None,
                   strides=[8, 16, 32]))
"""
STUDENT = """
from mmengine.config import read_base

with read_base():
    from .teacher import model as taught

from mmsrd import LinearProjector, SRDLoss
from mmsrd.teachers import PretrainedTeacher

distill = dict(
    teacher=dict(type=PretrainedTeacher, config=dict(model=taught), allow_random=True),
    losses=dict(neck=dict(type=SRDLoss, student='neck', teacher='neck', projector=dict(type=LinearProjector))))
"""
OPTIONS = {
    'preset': ('detection', 'detection'), 'labels': ('False', False), 'device_check': ('always', 'always'),
    'exact_resume': ('False', False),
    'schedule.start': ('2', 2), 'schedule.end': ('9', 9), 'schedule.warmup': ('3', 3),
    'schedule.by_epoch': ('True', True),
    'schedule.decay': ('linear', 'linear'), 'schedule.interval': ('4', 4),
    'report.images': ('2', 2), 'report.baseline': ('work_dirs/a', 'work_dirs/a'), 'report.metric': ('coco/x', 'coco/x'),
    'preemption.interval': ('5', 5), 'preemption.signals': ('[SIGTERM]', ('SIGTERM',)),
    'teacher.checkpoint': ('b.pth', 'b.pth'), 'teacher.config': ('b.py', 'b.py'),
    'teacher.allow_random': ('True', True), 'teacher.scale': ('0.5', 0.5), 'teacher.size': ('[64,96]', (64, 96)),
    'teacher.offload': ('True', True), 'teacher.init_student': ('False', False), 'teacher.check.images': ('3', 3),
    'teacher.swap_channels': ('True', True), 'teacher.classes': ('[a,b]', ('a', 'b')),
    'teacher.inference.precision': ('fp32', 'fp32'), 'teacher.inference.fold': ('False', False),
    'teacher.inference.channels_last': ('True', True), 'teacher.inference.stream': ('False', False),
    'teacher.inference.compile': ('True', True), 'teacher.ema.momentum': ('0.1', 0.1),
    'losses.x.student': ('neck', 'neck'), 'losses.x.teacher': ('neck', 'neck'), 'losses.x.weight': ('2', 2.0),
    'losses.x.balance': ('0.5', 0.5), 'losses.x.levels': ('[(0,1)]', [(0, 1)]), 'losses.x.resize': ('none', 'none'),
    'losses.x.pool': ('True', True), 'losses.x.tokens': ('patch', 'patch'),
    'losses.x.projector.type': ('MLPProjector', 'MLPProjector'),
}
"""Key of the block → its text on the command line, and what the config then has."""
PARTS = {'': DistillConfig, 'schedule': Schedule, 'report': ReportConfig, 'preemption': PreemptionConfig,
         'teacher': PretrainedTeacherConfig, 'teacher.inference': InferenceConfig, 'teacher.ema': EMATeacherConfig,
         'losses.x': LossConfig}
INTERNAL = {'key', 'name', 'module', 'teacher_name', 'teachers', 'losses'}


@pytest.fixture
def pure(tmp_path):
    (tmp_path / 'teacher.py').write_text(TEACHER)
    (tmp_path / 'student.py').write_text(STUDENT)
    return tmp_path


def test_a_teacher_that_is_imported_lazily(pure, student):
    """Its config is in another file, its classes are imported when they are needed."""
    for teacher in (Config.fromfile(str(pure / 'student.py')).distill,
                    dict(teacher=dict(config=Config.fromfile(str(pure / 'teacher.py')), allow_random=True)),
                    dict(teacher=dict(config=Config.fromfile(str(pure / 'teacher.py')).model, allow_random=True)),
                    dict(teacher=dict(config=str(pure / 'teacher.py'), allow_random=True))):
        distiller = mmsrd.attach(student, teacher)
        loss, = distiller.feature_losses
        assert {pair.channels[1] for pair in loss.pairs} == {12}
        assert type(distiller.teacher.model).__name__ == 'FCOS'
        mmsrd.detach(student)


@pytest.mark.parametrize('kind', [EMATeacher, 'EMATeacher', 'mmsrd.EMATeacher', 'mmsrd.teachers.EMATeacher'])
def test_kinds_of_teachers_as_classes_and_names(kind):
    config = parse_distill(dict(teacher=dict(type=kind, momentum=0.1)))
    assert config.teachers[''] == EMATeacherConfig('distill.teacher', 0.1)
    config = parse_distill(dict(teacher=dict(type=PretrainedTeacher, config='a.py', checkpoint='a.pth')))
    assert config.teachers[''].checkpoint == 'a.pth'


@pytest.mark.parametrize('key', OPTIONS)
@pytest.mark.parametrize('style', ['text', 'pure'])
def test_every_key_by_cfg_options(pure, key, style):
    text, expected = OPTIONS[key]
    whole = key.startswith('losses.')
    block = dict(teacher=dict(ema=dict())) if key.startswith('teacher.ema') else dict(teacher=dict(
        config='a.py', **({} if key == 'teacher.allow_random' else dict(checkpoint='a.pth'))))
    if whole:
        block['losses'] = dict(x=dict(student='a', teacher='b'))
    path = pure / 'config.py'
    lazy = 'from mmengine.hooks import Hook\nhook = dict(type=Hook)\n' if style == 'pure' else ''
    path.write_text(f'{lazy}distill = {block!r}\n')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    config = Config.fromfile(str(path))
    config.merge_from_dict(parser.parse_args(['--cfg-options', f'distill.{key}={text}']).cfg_options)
    value = parse_distill(config.distill)
    for part in key.split('.'):
        if part == 'teacher' and not hasattr(value, 'teacher'):
            value = value.teachers['']
        elif part in ('ema', 'images') and not hasattr(value, part):
            continue
        elif part == 'losses':
            value = {loss.name: loss for loss in value.losses}
        else:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
    assert value == expected


def test_the_keys_are_all_there():
    for prefix, part in PARTS.items():
        assert is_dataclass(part)
        for field in fields(part):
            key = f'{prefix}.{field.name}'.lstrip('.')
            if field.name in INTERNAL or key in PARTS or (prefix == 'losses.x' and field.name == 'preset'):
                continue
            assert any(option == key or option.startswith(f'{key}.') for option in OPTIONS), key
            assert field.default is not MISSING or field.default_factory is not MISSING or key in OPTIONS


def test_a_config_without_a_model():
    with pytest.raises(ConfigError, match='distill.teacher.config: defines no model; it has backbone'):
        parse_distill(dict(teacher=dict(config=dict(backbone=torch.nn.Identity), allow_random=True)))
