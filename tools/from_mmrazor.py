#!/usr/bin/env python
"""Print what a distillation config of MMRazor becomes with mmsrd.

``from_mmrazor.py CONFIG`` reads a config whose model is ``SingleTeacherDistill`` or ``FpnTeacherDistill`` and prints
``_base_``, ``runner_type`` and ``distill`` of the new one; MMRazor need not be installed. Losses and their weights are
the same. A loss on backbone or neck that mmsrd does not have becomes ``SRDLoss`` with balance 1, and a comment says so.
"""
from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any, Mapping

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

WRAPPERS = 'SingleTeacherDistill', 'FpnTeacherDistill'
LOSSES = {'PKDLoss': 'PKDLoss', 'ChannelWiseDivergence': 'CWDLoss', 'KLDivergence': 'KLDivLoss', 'DISTLoss': 'DISTLoss'}
"""Loss of MMRazor → the same one here."""
ARGUMENTS = {'tau': 'temperature', 'beta': 'beta', 'gamma': 'gamma', 'inter_loss_weight': 'beta',
             'intra_loss_weight': 'gamma'}
LINEAR = 'ConvModuleConnector', 'ConvModuleConncetor'  # MMRazor has both spellings
NORM = 'NormConnector'
FEATURES = 'backbone', 'neck'
GONE = '_base_', 'model', 'teacher_ckpt', 'find_unused_parameters', 'val_cfg', 'custom_hooks', 'norm_cfg'


class CannotMigrate(SystemExit):
    """A key of the config has no counterpart; the message names it."""


def _refuse(key: str, value: Any, why: str) -> CannotMigrate:
    return CannotMigrate(f'{key}={value!r}: {why}')


def migrate(model: Mapping[str, Any], hooks: list[Any]) -> tuple[dict[str, Any], list[str]]:
    """The ``distill`` block of a model of MMRazor, and remarks on what is not the same.

    Raises:
        CannotMigrate: Something has no counterpart.
    """
    if model.get('type') not in WRAPPERS:
        raise _refuse('model.type', model.get('type'), f'only {" and ".join(WRAPPERS)} can be translated')
    for key, only in (('teacher_trainable', False), ('student_trainable', True), ('teacher_norm_eval', True)):
        if model.get(key, only) != only:
            raise _refuse(f'model.{key}', model[key], 'mmsrd trains the student, and never the teacher')
    if model['distiller'].get('deliveries'):
        raise _refuse('model.distiller.deliveries', list(model['distiller'].deliveries), 'has no counterpart')
    remarks: list[str] = []
    losses = _losses(model['distiller'], remarks)
    block: dict[str, Any] = dict(teacher=_teacher(model, remarks), losses=losses)
    if not model.get('calculate_student_loss', True):
        block['labels'] = False
    for hook in hooks:
        if hook['type'].rpartition('.')[2] == 'StopDistillHook':
            block['schedule'] = dict(end=hook['stop_epoch'], by_epoch=True)
        else:
            remarks.append(f'custom_hooks: keep {hook["type"]}')
    return block, remarks


def _config_name(path: str) -> str:
    """Name of a config in today's packages."""
    return path.replace('mmcls::', 'mmpretrain::')


def _teacher(model: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    own = dict(model['teacher'])
    name, zoo = own.pop('cfg_path', None), own.pop('pretrained', False)
    if name and own:
        remarks.append(f'the teacher had its own {", ".join(own)}: write the whole model as teacher.config')
    checkpoint = model.get('teacher_ckpt') or ('auto' if zoo else None)
    if checkpoint is None:
        raise _refuse('model.teacher_ckpt', None, 'a teacher needs weights')
    teacher = dict(config=_config_name(name) if name else dict(model=own), checkpoint=checkpoint)
    parts = [part for part, block in model['architecture'].items() if isinstance(block, dict) and part != 'backbone'
             and (block.get('init_cfg') or {}).get('checkpoint') == checkpoint]
    if parts:
        teacher['init_student'] = True
        remarks.append(f'init_student=True does what init_cfg of {", ".join(parts)} did: leave it out of the student')
    return teacher


def _losses(distiller: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    """``distill.losses``: one for all levels of a module that are compared alike."""
    found: dict[str, dict[str, Any]] = {}
    for name, sides in distiller['loss_forward_mappings'].items():
        loss = _loss(name, distiller, sides, remarks)
        level = loss.pop('level')
        alike = [each for each in found.values()
                 if level is not None and {**each, 'levels': None} == {**loss, 'levels': None}]
        if not alike:
            module = loss['student'].replace('.', '_')
            found[name if module in found else module] = loss
            alike = [loss]
        if level is not None:
            alike[0].setdefault('levels', []).append(level)
    for loss in found.values():
        if 'weight' in loss:  # MMRazor adds levels up, mmsrd takes their mean
            loss['weight'] *= len(loss.get('levels', [None]))
    return found


def _loss(name: str, distiller: Mapping[str, Any], sides: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    own = dict(distiller['distill_losses'][name])
    kind, weight = own.pop('type'), own.pop('loss_weight', 1.0)
    student, teacher = (_recorded(name, distiller, sides, of) for of in (True, False))
    connectors = [connector for side in (student, teacher) for connector in side['connectors']]
    unknown = [c['type'] for c in connectors if c['type'] not in (*LINEAR, NORM)]
    level = (student['level'], teacher['level'])
    loss: dict[str, Any] = dict(student=student['source'], teacher=teacher['source'])
    pair = tuple(index or 0 for index in level)
    loss['level'] = None if level == (None, None) else pair[0] if pair[0] == pair[1] else pair
    if kind in LOSSES and not unknown:
        wrong = {key: value for key, value in own.items()
                 if key not in (*ARGUMENTS, 'resize_stu') and (key, value) != ('reduction', 'batchmean')}
        if wrong:
            raise _refuse(f'model.distiller.distill_losses.{name}', wrong, f'{LOSSES[kind]} has no such argument'
                          + ("; it divides by the number of images ('batchmean'), 'mean' by that of classes, too"
                             if 'reduction' in wrong else ''))
        loss.update(type=LOSSES[kind], weight=weight, **{ARGUMENTS[k]: v for k, v in own.items() if k in ARGUMENTS})
        if kind == 'PKDLoss' and own.get('resize_stu', True):
            loss['resize'] = 'to_teacher'
        if kind in ('PKDLoss', 'ChannelWiseDivergence') and not any(c['type'] in LINEAR for c in connectors):
            loss['projector'] = None
        if kind == 'ChannelWiseDivergence':
            loss['standardize'] = any(c.get('norm_cfg') for c in connectors)
    elif student['source'].partition('.')[0] in FEATURES:
        loss.update(type='SRDLoss', balance=1.0)
        remarks.append(f'{name}: {", ".join([kind, *unknown])} → SRDLoss with balance 1, which needs no weight')
    else:
        raise _refuse(f'model.distiller.distill_losses.{name}.type', kind, 'has no counterpart; for logits mmsrd has '
                      'KLDivLoss, BinaryKLDivLoss, DISTLoss and LDLoss')
    return loss


def _recorded(name: str, distiller: Mapping[str, Any], sides: Mapping[str, Any], student: bool) -> dict[str, Any]:
    """Module, level and connectors of one side of a loss."""
    of = 'student' if student else 'teacher'
    recorders = {key: distiller[f'{of}_recorders'][side['recorder']] for key, side in sides.items()
                 if side.get('from_student') is student and 'recorder' in side}
    outputs = [key for key, recorder in recorders.items() if recorder['type'] == 'ModuleOutputs']
    if len(outputs) != 1:
        raise _refuse(f'model.distiller.loss_forward_mappings.{name}', {key: r['type'] for key, r in recorders.items()},
                      f'mmsrd compares one output of a module of the {of} (ModuleOutputs)')
    side, recorder = sides[outputs[0]], recorders[outputs[0]]
    index = [side[at] for at in ('record_idx', 'data_idx') if side.get(at) is not None]
    if len([i for i in index if i]) > 1:
        raise _refuse(f'model.distiller.loss_forward_mappings.{name}', dict(side),
                      'record_idx and data_idx together have no counterpart')
    connector = side.get('connector')
    return dict(source=recorder['source'], level=max(index, default=None),
                connectors=[distiller['connectors'][connector]] if connector else [])


def student_of(model: Mapping[str, Any], base: ast.expr | None) -> tuple[Any, dict[str, Any]]:
    """``_base_`` of the new config, and what the old one, whose ``_base_`` is ``base``, changes in the student."""
    own = dict(model['architecture'])
    name = own.pop('cfg_path', None)
    own.pop('pretrained', None)
    return (_config_name(name), own) if name else (ast.literal_eval(base) if base else [], {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help='config of MMRazor')
    path = parser.parse_args().config
    MODULE2PACKAGE['mmcls'] = 'mmpretrain'  # its name when MMRazor's configs were written
    try:
        config = Config.fromfile(path)
    except (ModuleNotFoundError, FileNotFoundError) as e:
        raise SystemExit(f'{path}: {e}') from None
    block, remarks = migrate(config.get('model', {}), config.get('custom_hooks', []))
    source = path.read_text()
    assigned = {target.id: node.value for node in ast.parse(source).body if isinstance(node, ast.Assign)
                for target in node.targets if isinstance(target, ast.Name)}
    base, changes = student_of(config.model, assigned.get('_base_'))
    if 'cfg_path' in config.model['architecture'] and '_base_' in assigned:
        bases = ast.get_source_segment(source, assigned['_base_']) or ''
        remarks.append(f'data, schedule and runtime are those of {base} now; {path.name} has them from '
                       f'{" ".join(bases.split())}: take over what differs')
    if kept := [name for name in assigned if name not in GONE]:
        remarks.append(f'take over from {path.name} as they are: {", ".join(kept)}')
    text = dict(_base_=base, **(dict(model=changes) if changes else {}), runner_type='mmsrd.DistillRunner',
                distill=block)
    print(''.join(f'# {remark}\n' for remark in remarks) + Config(text).pretty_text, end='')


if __name__ == '__main__':
    main()
