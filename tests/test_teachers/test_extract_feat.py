"""Teachers and students whose forward pass gives no features: their own ``extract_feat`` does."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers.models import build_zoo
from mmdet.models import FCOS
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import mmsrd
from mmsrd.recorders import dry_run
from mmsrd.teachers.build_model import build_model

RESNET = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'


@MODELS.register_module()
class SilentFCOS(FCOS):
    """As Co-DETR of MMDetection's projects has it."""

    def _forward(self, *args, **kwargs):
        pass


@MODELS.register_module()
class FailingFCOS(FCOS):
    """Wants text before it looks at an image."""

    def _forward(self, batch_inputs, batch_data_samples=None):
        raise AttributeError("'DetDataSample' object has no attribute 'text'")


@pytest.mark.parametrize('kind', [SilentFCOS, FailingFCOS])
def test_detectors_whose_head_does_not_run(student, batch, distill, kind):
    """The features are those of the same detector with a head that works."""
    config = Config.fromfile(distill['teacher']['config'])
    expected = build_model(config, 'teacher')
    expected.load_state_dict(torch.load(distill['teacher']['checkpoint'])['state_dict'])
    config.model.type = kind
    plain = dict(precision='fp32', fold=False, channels_last=False, stream=False)
    block = dict(teacher=dict(config=config, checkpoint=distill['teacher']['checkpoint'], inference=plain))
    other = copy.deepcopy(student)
    other.__class__ = type('Student', (kind,), {})
    for model in (student, other):
        distiller = mmsrd.attach(model, block)
        inputs = batch(model)
        assert model(**inputs)['loss_srd_neck'] > 0
        features = distiller.teacher.features(inputs['inputs'], inputs['data_samples'])['neck']
        with torch.no_grad():
            maps = expected.eval().extract_feat(inputs['inputs'])
        assert all(torch.equal(level, map_) for level, map_ in zip(features, maps))


def test_the_head_is_not_called(student, batch, distill):
    mmsrd.attach(student, dict(teacher=distill['teacher']))
    called = []
    teacher = student.distiller.teacher.model
    for name, module in teacher.named_modules():
        module.register_forward_pre_hook(lambda module, args, name=name: called.append(name))
    student(**batch(student))
    assert 'neck' in called
    assert not any(name.startswith('bbox_head') or not name for name in called)


@pytest.mark.parametrize(('losses', 'forward'), [
    (dict(c5=dict(student='backbone', teacher='backbone')), 'extract_feat'),
    (dict(c5=dict(student='backbone.layer3', teacher='neck', pool=True)), 'extract_feat'),
    (dict(logits=dict(student='head.fc', teacher='head.fc', type='KLDivLoss')), 'tensor'),
    (None, 'tensor'),
])
def test_classifiers(losses, forward):
    student = build_zoo(RESNET)
    block = dict(teacher=dict(config=RESNET, allow_random=True), **({} if losses is None else dict(losses=losses)))
    distiller = mmsrd.attach(student, block)
    assert distiller.plan.teacher_plans[''].recording.forward == forward
    assert f'forward pass of the teacher: {"extract_feat" if forward != "tensor" else "mode=" + repr(forward)}' in \
        distiller.describe()
    student.train()(torch.rand(2, 3, 64, 64), [], mode='tensor')


def test_an_extract_feat_of_another_kind():
    """One that wants more than images, or does not reach what is asked for."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

        def extract_feat(self, inputs, text):
            return self.backbone(inputs)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.head(self.extract_feat(inputs, 'cats'))

    assert dry_run(Model(), {'backbone': 'k'}).forward == 'tensor'
    shorter = type('Shorter', (Model,), dict(extract_feat=lambda self, inputs, text='': self.backbone(inputs)))
    assert dry_run(shorter(), {'backbone': 'k'}).forward == 'extract_feat'
    assert dry_run(shorter(), {'head': 'k'}).forward == 'tensor'
