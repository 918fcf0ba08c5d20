"""Mistakes that show late or in odd places, and what the message says of them; the block's own are in test_config."""
from __future__ import annotations

import logging
import sys

import pytest
import torch
from helpers.processes import ROOT, forked
from mmengine.logging import MMLogger
from torch import nn

import mmsrd
from mmsrd.errors import (
    ConfigError,
    ConfigTypeError,
    FeatureMismatchError,
    NonFiniteError,
    TapError,
    TeacherError,
)
from mmsrd.registry import MODELS


def test_a_student_frozen_altogether(student, distill):
    student.requires_grad_(False)
    with pytest.raises(ConfigError, match='FCOS has no trainable parameters: the whole student is frozen'):
        mmsrd.attach(student, distill)


def test_a_projector_on_frozen_layers(student, distill, batch):
    for part in (student.backbone, student.neck):
        part.requires_grad_(False)
    mmsrd.attach(student, distill)
    with pytest.raises(TapError, match=r"losses\.neck\.student = 'neck': the feature carries no gradient.*frozen"):
        student(**batch(student))


@pytest.mark.parametrize(('side', 'value'), [('student', float('nan')), ('teacher', float('inf'))])
def test_a_feature_that_is_not_finite(student, distill, batch, side, value):
    distiller = mmsrd.attach(student, distill)
    model = student if side == 'student' else distiller.teacher.model
    with torch.no_grad():
        next(model.neck.parameters()).fill_(value)
    distiller.progress.iteration = 37
    message = (r"iteration 37: loss distill\.losses\.neck is not finite "
               rf"\(student 'neck', teacher 'neck'\); the {side}'s feature 'neck' is not finite")
    with pytest.raises(NonFiniteError, match=message):
        student(**batch(student))


def test_the_run_stops_at_a_loss_that_is_not_finite(make_runner, distill):
    runner = make_runner('run', distill)
    with torch.no_grad():
        next(runner.model.distiller.parameters()).fill_(float('nan'))
    with pytest.raises(NonFiniteError, match='iteration 0: .*the features are finite'):
        runner.train()


def test_a_loss_of_weight_zero_may_be_anything(student, distill, batch):
    """It is only logged then: the run is the baseline whatever the teacher gives."""
    distill['losses']['neck']['weight'] = 0
    distiller = mmsrd.attach(student, distill)
    with torch.no_grad():
        next(distiller.teacher.model.neck.parameters()).fill_(float('nan'))
    losses = student(**batch(student))
    assert losses['loss_srd_neck'] == 0
    assert losses['srd_alignment_neck'].isnan()


def test_mixed_precision_without_a_gpu(make_runner, distill):
    runner = make_runner('run', distill, **{'optim_wrapper.type': 'AmpOptimWrapper'})
    with pytest.raises(ConfigError, match=r"optim_wrapper\.type = 'AmpOptimWrapper': needs a GPU, and PyTorch"):
        runner.train()


def test_teacher_and_student_of_one_file(make_runner, distill, student_config, tmp_path):
    """Allowed, for it may be meant (not to forget while fine-tuning), but said."""
    student_config.dump(str(tmp_path / 'student.py'))
    make_runner('alone').train()
    file = str(tmp_path / 'alone' / 'epoch_2.pth')
    distill['teacher'] = dict(config=str(tmp_path / 'student.py'), checkpoint=file)
    runner = make_runner('run', distill, load_from=file, **{'train_cfg.max_epochs': 1})
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        runner.train()
    finally:
        logger.removeHandler(handler)
    text = ' '.join(record.getMessage() for record in records)
    assert f"distill.teacher.checkpoint = '{file}' is also load_from: teacher and student start with the same" in text


def test_an_optional_package_that_is_missing(student, distill, tmp_path, monkeypatch):
    (tmp_path / 'timm.py').write_text(
        "default_scope = 'mmpretrain'\nmodel = dict(type='TimmClassifier', model_name='resnet10t')\n")
    for module in ('timm', 'timm.models'):
        monkeypatch.setitem(sys.modules, module, None)
    distill['teacher'] = dict(config=str(tmp_path / 'timm.py'), allow_random=True)
    with pytest.raises(TeacherError, match=r'distill\.teacher\.config: the model cannot be built.*[Tt]imm'):
        mmsrd.attach(student, distill)


def test_a_toolbox_that_is_missing(student, distill):
    distill['teacher'] = dict(config='mmaction::tsn/tsn_r50.py', allow_random=True)
    with pytest.raises(mmsrd.errors.MissingPackageError, match="'mmaction' is not installed.*pip install mmaction"):
        mmsrd.attach(student, distill)


def test_taps_called_unequally_for_several_batches(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    arguments = batch(student)
    student(**{**arguments, 'mode': 'tensor'})
    distiller.recorders.start()
    student.neck(student.backbone(arguments['inputs']))
    pair = [(arguments['inputs'], arguments['data_samples'])] * 2
    with pytest.raises(FeatureMismatchError, match=r"losses\.neck\.student = 'neck': gave 3 levels for 2 batches"):
        distiller.compute_losses(pair)


def test_a_preset_for_a_model_without_features(distill):
    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.bbox_head = nn.Conv2d(3, 3, 1)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.bbox_head(inputs)

    distill.pop('losses')
    with pytest.raises(ConfigError, match=r"preset = 'detection': taps neck or backbone, and the student Nothing has"):
        mmsrd.attach(Nothing(), distill)


@pytest.mark.parametrize('flag', ['teacher', 'checkpoint'])
def test_flags_for_one_teacher_where_there_are_several(flag):
    from mmengine.config import Config

    from mmsrd.apis import with_teacher
    config = Config(dict(distill=dict(teachers=dict(a={}, b={}))))
    arguments = {**dict(teacher=None, checkpoint=None, preset=None), flag: 'x'}
    with pytest.raises(ConfigError, match=r'^--teacher.*the config has several `distill\.teachers`'):
        with_teacher(config, **arguments)


def test_print_distill_ends_with_one_line():
    done = forked(ROOT / 'tools/analysis/print_distill.py', 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', ok=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('ConfigError: distill: the config has no `distill` block')


FROZEN_STAGE = dict(neck=dict(student='backbone', teacher='backbone', weight=1.0))


def warned(monkeypatch):
    said = []
    monkeypatch.setattr('mmsrd.distillers.feature_loss.print_log', lambda text, **options: said.append(text))
    return said


def test_one_of_several_levels_is_frozen(student, distill, batch, monkeypatch):
    """It trains nothing, and is named once; the others go on."""
    said = warned(monkeypatch)
    distill['losses'] = FROZEN_STAGE
    for part in (student.backbone.conv1, student.backbone.bn1, student.backbone.layer1):
        part.requires_grad_(False)
    mmsrd.attach(student, distill)
    for _ in range(2):
        student(**batch(student))
    message, = (text for text in said if 'frozen' in text)
    assert message.startswith("distill.losses.neck.student = 'backbone': level(s) 0 come from frozen layers")


def test_the_only_compared_level_is_frozen(student, distill, batch):
    """Although the module has others."""
    distill['losses'] = dict(neck=dict(FROZEN_STAGE['neck'], levels=[0]))
    for part in (student.backbone.conv1, student.backbone.bn1, student.backbone.layer1):
        part.requires_grad_(False)
    mmsrd.attach(student, distill)
    with pytest.raises(TapError, match=r"losses\.neck\.student = 'backbone': the feature carries no gradient"):
        student(**batch(student))


@pytest.mark.parametrize('kind', ['ReturnsNothing', 'ReturnsVector', 'ReturnsDict'])
def test_a_loss_that_returns_no_loss(student, distill, batch, kind):
    distill['losses']['neck']['type'] = kind
    mmsrd.attach(student, distill)
    with pytest.raises(ConfigTypeError, match=rf"^distill\.losses\.neck\.type = '{kind}': returns a .*; a loss "
                                              'returns a scalar tensor'):
        student(**batch(student))


def returning(name, what):
    MODELS.register_module(name=name, module=type(name, (nn.Module,), dict(
        forward=lambda self, student, teacher: what(student - teacher))))


@pytest.mark.parametrize('kind', ['LogsALoss', 'LogsL1'])
def test_what_is_logged_is_not_trained(student, distill, batch, kind):
    """MMEngine adds up all entries with "loss" in their names."""
    distill['losses']['neck']['type'] = kind
    mmsrd.attach(student, distill)
    if kind == 'LogsALoss':
        with pytest.raises(ConfigTypeError, match=r"type = 'LogsALoss': wants to log 'l1_loss'; MMEngine adds up all"):
            student(**batch(student))
    else:
        losses = student(**batch(student))
        assert not losses['srd_l1_neck'].requires_grad
        assert losses['srd_positive_neck'].dtype == torch.float32  # it was a whole number


returning('LogsALoss', lambda difference: (difference.square().mean(), dict(l1_loss=difference.abs().mean())))
returning('LogsL1', lambda difference: (difference.square().mean(), dict(
    l1=difference.abs().mean(), positive=(difference > 0).sum())))
returning('ReturnsNothing', lambda difference: None)
returning('ReturnsVector', lambda difference: difference.abs())
returning('ReturnsDict', lambda difference: dict(loss=difference.mean()))
returning('ReturnsNumbers', lambda difference: (difference.square().mean(), dict(largest=3.0)))


def test_a_loss_with_plain_numbers_to_log(student, distill, batch):
    distill['losses']['neck']['type'] = 'ReturnsNumbers'
    mmsrd.attach(student, distill)
    assert float(student(**batch(student))['srd_largest_neck']) == 3
