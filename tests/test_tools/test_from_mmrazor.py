"""Configs of MMRazor become blocks that compare the same features with the same losses and weights."""
from __future__ import annotations

from typing import Any

import pytest
import torch
from from_mmrazor import CannotMigrate, migrate
from helpers.processes import ROOT, python
from mmengine.config import Config, ConfigDict
from torch.nn import functional as F

import mmsrd.models  # noqa: F401  registers the losses
from mmsrd.config.distill_config import parse_distill
from mmsrd.registry import MODELS

TEACHER = 'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'
STUDENT = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'


def razor(losses: dict[str, Any], student: Any = 'neck', teacher: Any = 'neck', per_level: bool = False,
          connectors: Any = (), **changes: Any) -> ConfigDict:
    """Model of MMRazor that compares level i in its i-th loss, of one module or of a module for each level."""
    recorders = {of: {f'fpn{i}': dict(type='ModuleOutputs', source=f'{source}.{i}.conv') for i in range(len(losses))}
                 if per_level else dict(fpn=dict(type='ModuleOutputs', source=source))
                 for of, source in (('student_recorders', student), ('teacher_recorders', teacher))}
    mappings = {}
    for i, name in enumerate(losses):
        record = dict(recorder=f'fpn{i}') if per_level else dict(recorder='fpn', data_idx=i)
        mappings[name] = dict(preds_S=dict(from_student=True, **record), preds_T=dict(from_student=False, **record))
        if connectors:
            mappings[name]['preds_S']['connector'], mappings[name]['preds_T']['connector'] = f's{i}', f't{i}'
    model = dict(
        _scope_='mmrazor', type='FpnTeacherDistill', architecture=dict(cfg_path=STUDENT, pretrained=False),
        teacher=dict(cfg_path=TEACHER, pretrained=False), teacher_ckpt='teacher.pth',
        distiller=dict(type='ConfigurableDistiller', **recorders, distill_losses=losses,
                       loss_forward_mappings=mappings, connectors=dict(connectors)))
    return ConfigDict({**model, **changes})


def each(count: int, **loss: Any) -> dict[str, Any]:
    return {f'loss_fpn{i}': dict(loss) for i in range(count)}


def value(block: dict[str, Any], student: list[torch.Tensor], teacher: list[torch.Tensor]) -> float:
    """What the losses of a block are on features of a pyramid: a loss over levels is the mean of the levels."""
    total = 0.0
    for loss in parse_distill(block).losses or []:
        module = MODELS.build(dict(loss.module, _scope_='mmsrd'))  # other tests may leave another scope
        levels = [float(module(student[s], teacher[t])[0]) for s, t in loss.levels or []]
        total += loss.weight * sum(levels) / len(levels)
    return total


@pytest.fixture
def pyramid():
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(2, 8, side, side, generator=generator) for side in (16, 8, 4, 3, 2)] for _ in range(2)]


def test_pkd_is_the_same_number(pyramid):
    block, remarks = migrate(razor(each(4, type='PKDLoss', loss_weight=6)), [])
    student, teacher = pyramid
    expected = 0.0
    for s, t in zip(student[:4], teacher):  # each channel over images and positions; torch's variance is unbiased
        s, t = ((x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-4).sqrt()
                for x in (s, t))
        expected += 6 * float(F.mse_loss(s, t)) / 2
    assert value(block, student, teacher) == pytest.approx(expected, rel=1e-5)
    assert block['teacher'] == dict(config=TEACHER, checkpoint='teacher.pth')
    assert list(block['losses']) == ['neck']
    assert block['losses']['neck']['levels'] == [0, 1, 2, 3]
    assert block['losses']['neck']['projector'] is None
    assert remarks == []


@pytest.mark.parametrize('tau', [1, 4])
def test_cwd_is_the_same_number(pyramid, tau):
    block, _ = migrate(razor(each(5, type='ChannelWiseDivergence', tau=tau, loss_weight=10)), [])
    expected = 0.0
    for s, t in zip(*pyramid):
        target = torch.distributions.Categorical(logits=t.flatten(2) / tau)
        own = torch.distributions.Categorical(logits=s.flatten(2) / tau)
        expected += 10 * tau ** 2 * float(torch.distributions.kl_divergence(target, own).mean())
    assert value(block, *pyramid) == pytest.approx(expected, rel=1e-5)


def test_different_weights_stay_different():
    losses = each(3, type='PKDLoss', loss_weight=6)
    losses['loss_fpn2']['loss_weight'] = 1
    block, _ = migrate(razor(losses), [])
    assert {name: (loss['levels'], loss['weight']) for name, loss in block['losses'].items()} == {
        'neck': ([0, 1], 12), 'loss_fpn2': ([2], 1)}


def test_rtmdet_of_mmyolo():
    """A module for each level, 1×1 convolutions, features standardised by a normalisation without parameters."""
    norm = dict(type='BN', affine=False, track_running_stats=False)
    connectors = {f's{i}': dict(type='ConvModuleConnector', in_channel=96, out_channel=128, bias=False, norm_cfg=norm,
                                act_cfg=None) for i in range(3)}
    connectors.update({f't{i}': dict(type='NormConnector', in_channels=128, norm_cfg=norm) for i in range(3)})
    hooks = [dict(type='EMAHook', momentum=0.0002), dict(type='mmrazor.StopDistillHook', stop_epoch=280)]
    block, remarks = migrate(razor(each(3, type='ChannelWiseDivergence', loss_weight=1), 'neck.out_layers',
                                   'neck.out_layers', True, connectors), hooks)
    losses = parse_distill(block).losses
    assert [(loss.student, loss.teacher, loss.weight, loss.levels) for loss in losses] == [
        (f'neck.out_layers.{i}.conv', f'neck.out_layers.{i}.conv', 1, None) for i in range(3)]
    assert {loss.projector for loss in losses} == {'auto'}  # a linear one
    assert {loss.module['standardize'] for loss in losses} == {True}
    assert block['schedule'] == dict(end=280, by_epoch=True)
    assert remarks == ['custom_hooks: keep EMAHook']


def test_a_loss_that_is_not_here():
    """FGD and MGD have connectors and arguments of their own; what they compare is compared with SRD."""
    inherited = dict(type='Pretrained', prefix='neck.', checkpoint='teacher.pth')
    connectors = {f'{side}{i}': dict(type='FGDConnector', student_channels=256) for i in range(2) for side in 'st'}
    block, remarks = migrate(razor(each(2, type='FGDLoss', alpha_fgd=0.001, temp=0.5), connectors=connectors,
                                   architecture=dict(backbone=dict(depth=50), neck=dict(init_cfg=inherited))), [])
    assert block['losses'] == dict(neck=dict(student='neck', teacher='neck', type='SRDLoss', balance=1.0,
                                             levels=[0, 1]))
    assert block['teacher']['init_student'] is True
    assert [remark.partition(':')[0] for remark in remarks] == [
        'loss_fpn0', 'loss_fpn1', 'init_student=True does what init_cfg of neck did']
    assert 'FGDLoss, FGDConnector, FGDConnector → SRDLoss with balance 1' in remarks[1]
    parse_distill(block)


@pytest.mark.parametrize('names', [('beta', 'gamma'), ('inter_loss_weight', 'intra_loss_weight')])
def test_dist(names):
    losses = dict(loss_kl=dict(type='DISTLoss', tau=2, loss_weight=3, **dict(zip(names, (0.5, 0.25)))))
    block, _ = migrate(razor(losses, 'head.fc', 'head.fc'), [])
    assert block['losses'] == dict(head_fc=dict(student='head.fc', teacher='head.fc', type='DISTLoss', weight=3,
                                                temperature=2, beta=0.5, gamma=0.25, levels=[0]))


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(type='DAFLDataFreeDistillation'), r"model.type='DAFLDataFreeDistillation': only"),
    (dict(teacher_trainable=True), 'model.teacher_trainable=True'),
    (dict(teacher_ckpt=None), 'model.teacher_ckpt=None: a teacher needs weights')])
def test_what_has_no_counterpart(changes, message):
    with pytest.raises(CannotMigrate, match=message):
        migrate(razor(each(1, type='PKDLoss'), **changes), [])


def test_losses_without_a_counterpart():
    with pytest.raises(CannotMigrate, match=r"distill_losses.loss_fpn0.type='DKDLoss': has no counterpart"):
        migrate(razor(each(1, type='DKDLoss'), 'head.fc', 'head.fc'), [])
    with pytest.raises(CannotMigrate, match=r"loss_fpn0={'reduction': 'mean'}: KLDivLoss has no such arg.*'batchmean'"):
        migrate(razor(each(1, type='KLDivergence', tau=1, reduction='mean'), 'head.fc', 'head.fc'), [])
    model = razor(each(1, type='PKDLoss'))
    model.distiller.student_recorders.fpn.type = 'FunctionOutputs'
    with pytest.raises(CannotMigrate, match=r"mappings.loss_fpn0={'preds_S': 'FunctionOutputs'}: mmsrd compares"):
        migrate(model, [])


def test_the_printed_config_distils(tmp_path):
    """From MMRazor's file to a config that MMEngine reads and mmsrd accepts."""
    model = razor(each(4, type='PKDLoss', loss_weight=10)).to_dict()
    (tmp_path / 'razor.py').write_text(
        "_base_ = ['mmdet::_base_/datasets/coco_detection.py', 'mmdet::_base_/schedules/schedule_1x.py',\n"
        f"          'mmdet::_base_/default_runtime.py']\nmodel = {model!r}\nfind_unused_parameters = True\n"
        "val_cfg = dict(_delete_=True, type='mmrazor.SingleTeacherDistillValLoop')\n"
        'optim_wrapper = dict(optimizer=dict(lr=0.01))\n')
    printed = python('tools/from_mmrazor.py', tmp_path / 'razor.py', cwd=ROOT).stdout
    remarks = [line for line in printed.splitlines() if line.startswith('#')]
    assert remarks[0].startswith(f"# data, schedule and runtime are those of {STUDENT} now; razor.py has them from "
                                 "['mmdet::_base_/datasets/coco_detection.py'")
    assert remarks[1:] == ['# take over from razor.py as they are: optim_wrapper']
    (tmp_path / 'new.py').write_text(printed)
    config = Config.fromfile(tmp_path / 'new.py')
    assert config.model.type == 'RetinaNet'
    assert config.runner_type == 'mmsrd.DistillRunner'
    [loss] = parse_distill(config.distill).losses
    assert (loss.weight, loss.levels) == (40, [(0, 0), (1, 1), (2, 2), (3, 3)])
    (tmp_path / 'plain.py').write_text("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n")
    refused = python('tools/from_mmrazor.py', tmp_path / 'plain.py', cwd=ROOT, ok=False)
    assert refused.returncode == 1
    assert "model.type='RetinaNet': only SingleTeacherDistill and FpnTeacherDistill" in refused.stderr
