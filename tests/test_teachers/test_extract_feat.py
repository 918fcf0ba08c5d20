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
from mmsrd.teachers.fuse_conv_bn import ConvBNFinder

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


class Own(nn.Module):
    """A detector of a user's.

    Args:
        inplace: Whether its head writes into what the neck returns.
        side: Smallest map that its neck takes.
    """

    def __init__(self, inplace=False, side=0):
        super().__init__()
        self.side = side
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8))
        self.neck = nn.Conv2d(8, 8, 1)
        self.bbox_head = nn.Sequential(nn.ReLU(inplace), nn.Conv2d(8, 1, 1))

    def extract_feat(self, inputs):
        x = self.backbone(inputs)
        if x.shape[-1] < self.side:
            raise ValueError('too small')
        return self.neck(x)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.bbox_head(self.extract_feat(inputs))
        return dict(loss=x.mean()) if mode == 'loss' else x


MODELS.register_module(name='OwnOfATest', module=Own)


def test_a_head_that_writes_into_the_neck():
    """The student's runs in training, so its dry run has to show that."""
    block = dict(teacher=dict(config=dict(type='OwnOfATest'), allow_random=True),
                 losses=dict(x=dict(student='neck', teacher='neck')))
    student = Own(inplace=True)
    mmsrd.attach(student, block)
    images = torch.randn(2, 3, 64, 64)
    expected = student.neck(student.backbone(images)).detach()
    recorded = []
    student.distiller.feature_losses[0].register_forward_pre_hook(lambda m, args: recorded.append(args[0][0]))
    student(images, mode='loss')
    torch.testing.assert_close(recorded[0].detach(), expected)  # as they were before the head


def test_normalisation_is_fused_after_attempts_that_failed():
    """Of two that failed for the size of the image nothing is left."""
    finders = ConvBNFinder(), ConvBNFinder()
    model = Own(side=17).eval()
    for finder, sides in zip(finders, ((64, 128, 224), (224,))):
        with finder.watch(model):
            assert dry_run(model, {'neck': 'k'}, sides, begin=finder.begin).image == (224, 224)
    assert finders[0].pairs(set()) == finders[1].pairs(set()) == [(model.backbone[0], model.backbone[1])]


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
