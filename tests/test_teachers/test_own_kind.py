"""A kind of teacher that a user registers."""
from __future__ import annotations

import copy

import pytest
import torch

import mmsrd
from mmsrd.config import InferenceConfig
from mmsrd.distillers import read_block
from mmsrd.errors import ConfigError, UnknownKeyError
from mmsrd.registry import TEACHERS
from mmsrd.teachers import PretrainedTeacher, Teacher

LOSSES = dict(neck=dict(student='neck', teacher='neck'))


class FrozenCopy(Teacher):
    """The student as it was before training, its weights times a factor."""

    def __init__(self, key, student, factor=1.0):
        super().__init__(copy.deepcopy(student), key, 'the student before training')
        self.factor = factor

    def load_weights(self):
        for parameter in self.model.parameters():
            parameter.mul_(self.factor)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    TEACHERS.import_from_location()
    monkeypatch.setitem(TEACHERS.module_dict, 'FrozenCopy', FrozenCopy)


def test_it_teaches(student, batch):
    data = batch(student)
    data.pop('mode', None)
    student.eval()  # as the teacher is
    with torch.no_grad():
        expected = student.neck(student.backbone(data['inputs']))
    student.train()
    distiller = mmsrd.attach(student, dict(teacher=dict(type='FrozenCopy'), losses=LOSSES))
    features = distiller.teacher.features(data['inputs'], data['data_samples'])['neck']
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(features, expected))
    assert 'loss_srd_neck' in student(**batch(student))
    assert 'the student before training' in distiller.describe()


def test_its_arguments(student):
    distiller = mmsrd.attach(student, dict(teacher=dict(type=FrozenCopy, factor=0.0), losses=LOSSES))
    assert not any(parameter.any() for parameter in distiller.teacher.model.parameters())


@pytest.mark.parametrize(('teacher', 'kind', 'message'), [
    (dict(type='FrozenCopie'), ConfigError, r"distill.teacher.type = 'FrozenCopie'.*did you mean 'FrozenCopy'"),
    (dict(type=dict), ConfigError, 'distill.teacher.type = .*is not a registered kind of teacher'),
    (dict(type='FrozenCopy', facter=1), UnknownKeyError, "distill.teacher: unknown key 'facter'.*'factor'"),
    (dict(type=3), ConfigError, 'distill.teacher.type = 3: must be the name of a kind of teacher'),
    (dict(type='PretrainedTeacher'), ConfigError, 'distill.teacher.config: is required')])
def test_mistakes(teacher, kind, message):
    with pytest.raises(kind, match=message):
        read_block(dict(teacher=teacher, losses=LOSSES))


@pytest.mark.parametrize('options', [dict(ema=dict(momentum=0.1)), dict(momentum=0.1)])
def test_the_built_in_kinds_by_name(options):
    config = read_block(dict(teacher=dict(type='EMATeacher', **options), losses=LOSSES))
    assert config.teachers[''].momentum == 0.1
    config = read_block(dict(teacher=dict(type='PretrainedTeacher', config='c', checkpoint='f'), losses=LOSSES))
    assert config.teachers[''].checkpoint == 'f'


def test_a_kind_with_a_scope_and_one_that_derives_from_another(student, distill, monkeypatch):
    class Loud(PretrainedTeacher):
        """A trained teacher."""

    monkeypatch.setitem(TEACHERS.module_dict, 'Loud', Loud)
    for kind in ('mmsrd.Loud', Loud):
        distiller = mmsrd.attach(student, dict(distill, teacher=dict(distill['teacher'], type=kind)))
        assert isinstance(distiller.teacher, Loud)
        mmsrd.detach(student)
    with pytest.raises(ConfigError, match='distill.teacher.checkpoint = None: the teacher would have random weights'):
        read_block(dict(teacher=dict(type='Loud', config='c'), losses=LOSSES))


def test_a_kind_without_a_student(monkeypatch):
    class Alone(Teacher):
        def __init__(self, key):
            super().__init__(torch.nn.Linear(1, 1), key, 'alone')

    monkeypatch.setitem(TEACHERS.module_dict, 'Alone', Alone)
    with pytest.raises(ConfigError, match="distill.teacher.type = 'Alone': its __init__ must take the arguments `key`"):
        read_block(dict(teacher=dict(type='Alone'), losses=LOSSES))


def test_its_speedups_are_taken_back(student, batch):
    distiller = mmsrd.attach(student, dict(teacher=dict(type='FrozenCopy'), losses=LOSSES, device_check='always'))
    distiller.teacher.speed_up_by(InferenceConfig(precision='bf16'))
    losses = student(**batch(student))
    assert torch.isfinite(losses['loss_srd_neck'])


def test_an_argument_that_is_missing(monkeypatch):
    class Needy(FrozenCopy):
        def __init__(self, key, student, *, factor):
            super().__init__(key, student, factor)

    monkeypatch.setitem(TEACHERS.module_dict, 'Needy', Needy)
    with pytest.raises(ConfigError, match=r'distill.teacher.factor: is required by Needy'):
        read_block(dict(teacher=dict(type='Needy'), losses=LOSSES))
