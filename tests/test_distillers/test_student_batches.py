"""Semi-supervised detectors: the student inside is distilled, batch by batch."""
from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from zoo_inputs import batch_for

import mmsrd
from mmsrd.distillers.student_batches import arguments_of, batches_of
from mmsrd.errors import ConfigError
from mmsrd.teachers.build_model import build_model, initialise
from mmsrd.utils.zoo import load_config

NAME = 'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
RETINA = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'


@pytest.fixture(scope='module')
def config():
    config: Config = load_config(NAME, 'k')
    return config


def build(config):
    torch.manual_seed(0)
    model = build_model(config, 'k').train()
    initialise(model)
    return model


def test_each_batch_meets_its_own_features(config):
    """Whatever the order of the dict: the loss is the mean over the two batches, each compared with itself."""
    model = build(config)
    distiller = mmsrd.attach(model, dict(
        teacher=dict(config=RETINA, allow_random=True),
        losses=dict(neck=dict(student='student.neck', teacher='neck', levels=[(1, 0), (2, 1)]))))
    batch = batch_for('mmdet', model, config, 96)
    names = ['unsup_teacher', 'unsup_student', 'sup']
    batch = {key: {name: batch[key][name] for name in names} for key in ('inputs', 'data_samples')}
    pairs = []
    compare = distiller.losses['neck']
    compare.register_forward_pre_hook(lambda module, args: pairs.append(args[:2]))
    losses = model(**batch, mode='loss')
    assert len(pairs) == 2
    with torch.no_grad():
        for (student_levels, teacher_levels), name in zip(pairs, ('sup', 'unsup_student')):
            inputs = batch['inputs'][name]
            own = model.student.neck(model.student.backbone(inputs))
            torch.testing.assert_close(student_levels[1], own[1])
            taught = distiller.teacher.features(inputs, None)['neck']
            torch.testing.assert_close(teacher_levels[0], taught[0])
        mean = sum(compare(*pair)[0] for pair in pairs[:2]) / 2
    torch.testing.assert_close(losses['loss_srd_neck'].detach(), mean)


def test_a_semi_supervised_teacher(config):
    """Its trained part teaches, not what its own forward takes."""
    model = build(config)
    mmsrd.attach(model, dict(teacher=dict(ema=dict(momentum=0.1)), losses=dict(
        neck=dict(student='student.neck', teacher='student.neck', levels=[1], balance=1.0))))
    losses = model(**batch_for('mmdet', model, config, 96), mode='loss')
    assert losses['loss_srd_neck'].isfinite()


def test_a_balance_measures_all_batches(config):
    """The norm at a level is that of the gradients of both batches together."""
    model = build(config)
    distiller = mmsrd.attach(model, dict(teacher=dict(config=RETINA, allow_random=True), losses=dict(
        neck=dict(student='student.neck', teacher='neck', levels=[(2, 1)], balance=1.0))))
    data = batch_for('mmdet', model, config, 96)
    seen = []
    model.student.neck.register_forward_hook(lambda module, args, output: seen.append(output[2]))
    losses = model(**data, mode='loss')
    total = sum(v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if 'loss' in k)
    own = torch.autograd.grad(total - losses['loss_srd_neck'], seen, retain_graph=True)
    total.backward()
    distiller.update_balances()
    assert len(seen) == 2
    norms = distiller.losses['neck'].balance.last
    expected = torch.stack([gradient.norm() for gradient in own]).norm()
    torch.testing.assert_close(norms[0, 0], expected, rtol=1e-4, atol=0)
    assert norms[1, 0] > 0


def test_images_that_are_not_those_of_a_batch():
    images = torch.zeros(1, 3, 8, 8)
    inputs, samples = dict(sup=images, unsup_teacher=images + 1), dict(sup=['a'], unsup_teacher=['b'])
    assert batches_of(torch.nn.Identity(), inputs, samples, [images]) == [(images, ['a'])]
    for seen in ([images.clone()], []):
        with pytest.raises(ConfigError, match='sees other images than the batches sup, unsup_teacher'):
            batches_of(torch.nn.Identity(), inputs, samples, seen)


class PassesOn(torch.nn.Module):
    """As MMPretrain's LoRAModel."""

    def forward(self, *args, **kwargs):
        return args, kwargs


class PassesMost(torch.nn.Module):
    def forward(self, inputs, *args, **kwargs):
        return inputs, args, kwargs


@pytest.mark.parametrize('model', [PassesOn(), PassesMost()])
@pytest.mark.parametrize(('args', 'kwargs'), [
    (('x',), dict(data_samples='y', mode='loss')), (('x', 'y', 'loss'), {}), (('x', 'y'), dict(mode='loss'))])
def test_a_student_that_passes_its_arguments_on(model, args, kwargs):
    assert arguments_of(model, args, kwargs) == dict(inputs='x', data_samples='y', mode='loss')
