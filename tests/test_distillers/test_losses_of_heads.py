"""Losses that people compare with, at work in detectors: what they need of a head is checked before training."""
from __future__ import annotations

import pytest
import torch
from helpers.models import build_zoo
from helpers.processes import ROOT
from mmengine.config import Config

import mmsrd
from mmsrd.errors import ConfigError, FeatureMismatchError
from mmsrd.recorders import RecorderManager
from mmsrd.teachers.build_model import build_model, initialise

GFL = str(ROOT / 'configs/composed/gfl_r18w8_128.py')
TEACHER = dict(config=str(ROOT / 'configs/composed/gfl_r18w32_128.py'), allow_random=True)
FASTER = 'mmdet::faster_rcnn/faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py'


def gfl():
    torch.manual_seed(0)
    model = build_model(Config.fromfile(GFL), 'student')
    initialise(model)
    return model.train()


def test_a_list_of_modules_gives_a_level_each(batch):
    """What is compared is what the head returns for boxes."""
    student = gfl()
    recorders = RecorderManager(student, {'bbox_head.scales': 'key'})
    with recorders.recording():
        _, boxes = student(batch(student)['inputs'], mode='tensor')
        recorded = recorders.pop_outputs()['bbox_head.scales']
    assert len(boxes) == 3
    assert all(torch.equal(own, expected) for own, expected in zip(recorded, boxes))


@pytest.mark.parametrize('loss', [
    dict(type='LDLoss', student='bbox_head.scales', teacher='bbox_head.scales'),
    dict(type='CWDLoss', student='neck', teacher='neck', levels='stride', tau=2.0),
    dict(type='DISTLoss', student='bbox_head.gfl_cls', teacher='bbox_head.gfl_cls', levels='stride'),
], ids=lambda loss: loss['type'])
def test_a_step_with_balance(batch, loss):
    student = gfl()
    mmsrd.attach(student, dict(teacher=TEACHER, losses=dict(compared=dict(loss, balance=1.0))))
    arguments = batch(student)
    for _ in range(2):  # the second has a balance
        result = student(**arguments)
        student.parse_losses(result)[0].backward()
    assert result['loss_srd_compared'] > 0
    assert all(parameter.grad.isfinite().all() for parameter in student.parameters() if parameter.grad is not None)
    assert any(parameter.grad.any() for parameter in student.backbone.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(('path', 'options', 'message'), [
    ('gfl_cls', dict(type='LDLoss'), r'distill.losses.x, levels \(0, 0\): LDLoss with bins=17 compares 68 channels'),
    ('scales', dict(type='LDLoss', bins=16), 'LDLoss with bins=16 compares 64 channels, .* but got 68'),
    ('scales', dict(type='CWDLoss', pool=True), r'distill.losses.x, levels \(0, 0\): CWDLoss compares positions'),
    ('gfl_cls', dict(type='DISTLoss', temperature=0), 'distill.losses.x.temperature = 0: must be'),
    ('scales', dict(type='LDLoss', bins=1), 'distill.losses.x.bins = 1: must be'),
    ('scales', dict(type='CWDLoss', standardize='yes'), "distill.losses.x.standardize = 'yes': must be"),
])
def test_heads_that_do_not_fit(path, options, message):
    loss = dict(options, student=f'bbox_head.{path}', teacher=f'bbox_head.{path}')
    with pytest.raises(ConfigError, match=message):
        mmsrd.attach(gfl(), dict(teacher=TEACHER, losses=dict(x=loss)))


@pytest.mark.parametrize('loss', [dict(type='DISTLoss', student='roi_head.bbox_head.fc_cls'),
                                  dict(student='roi_head.bbox_roi_extractor'),
                                  dict(student='roi_head.bbox_roi_extractor', pool=True)], ids=str)
def test_regions_are_not_compared(loss):
    """Each model proposes its own."""
    loss = dict(loss, teacher=loss['student'])
    with pytest.raises(FeatureMismatchError, match=r'distill.losses.x: .* are of \d+ regions of an image'):
        mmsrd.attach(build_zoo(FASTER), dict(teacher=dict(config=FASTER, allow_random=True), losses=dict(x=loss)))
