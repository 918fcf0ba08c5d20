"""Teachers of configs that say little, and of models that would download something although they get a checkpoint."""
from __future__ import annotations

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmsrd
from mmsrd.teachers.build_model import build_model, scope_of


@pytest.fixture
def nameless(teacher_files, tmp_path):
    """The tiny teacher's config without its scope: given inline, and as a file."""
    config = Config.fromfile(teacher_files[0])
    config.pop('default_scope')
    config.dump(str(tmp_path / 'nameless.py'))
    return [dict(model=config.model.to_dict()), str(tmp_path / 'nameless.py')]


@pytest.mark.parametrize('kind', [0, 1])
@pytest.mark.parametrize('current', ['mmengine', 'mmpretrain'])
def test_a_config_without_scope_has_the_students(student, distill, nameless, kind, current):
    """Whatever was built before."""
    distill['teacher']['config'] = nameless[kind]
    with DefaultScope.overwrite_default_scope(current):
        distiller = mmsrd.attach(student, distill)
    assert type(distiller.teacher.model).__module__.startswith('mmdet.')


def test_a_runner_with_such_a_teacher(make_runner, distill, nameless):
    distill['teacher']['config'] = nameless[0]
    make_runner('run', distill, **{'train_cfg.max_epochs': 1}).train()


def test_a_model_of_ones_own_has_the_scope_of_the_runner():
    class Own(torch.nn.Module):
        pass

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert scope_of(Own()) == 'mmpretrain'


@pytest.mark.parametrize('model', [
    dict(type='TimmClassifier', model_name='resnet10t', pretrained=True, num_classes=5),
    dict(type='ImageClassifier', backbone=dict(type='TIMMBackbone', model_name='resnet10t', pretrained=True),
         neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=5, in_channels=512))])
def test_nothing_is_downloaded_beside_a_checkpoint(model, tmp_path, monkeypatch):
    """Nor is the config changed."""
    asked = []
    created = timm.create_model

    def create(*args, pretrained=False, **kwargs):
        asked.append(pretrained)
        return created(*args, pretrained=False, **kwargs)

    for module in (timm, timm.models):
        monkeypatch.setattr(module, 'create_model', create)
    config = Config(dict(default_scope='mmpretrain', model=model))
    torch.save(dict(state_dict=build_model(config, 'k').state_dict()), tmp_path / 't.pth')
    student = build_model(config, 'k')
    asked.clear()
    mmsrd.attach(student, dict(teacher=dict(config=config, checkpoint=str(tmp_path / 't.pth'))))
    assert asked == [False]
    assert 'True' in str(config.model)
    mmsrd.detach(student)
    mmsrd.attach(student, dict(teacher=dict(config=config, allow_random=True)))  # its weights are what it builds
    assert asked == [False, True]
