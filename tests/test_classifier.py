"""MMPretrain classifiers are distilled by the same block."""
from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

import mmsrd
from mmsrd.zoo import config_path


def test_preset_of_a_classifier():
    config = Config.fromfile(str(config_path('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'k')))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        student = MODELS.build({**config.model, 'data_preprocessor': config.data_preprocessor})
    distiller = mmsrd.attach(student, dict(
        teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py', allow_random=True)))
    assert distiller.projectors['feature'][0].weight.shape == (2048, 512)
    assert distiller.teacher._convert.identical
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    calls = []
    distiller.teacher.model.head.register_forward_hook(lambda *a: calls.append(1))
    losses = student(inputs=torch.randn(4, 3, 64, 64), data_samples=samples, mode='loss')
    assert set(losses) == {'loss', 'loss_srd_feature', 'srd_alignment/feature'}
    losses['loss_srd_feature'].backward()
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    assert not calls
