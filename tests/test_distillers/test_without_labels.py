"""A student that is trained without labels: what runs, what learns, and what comes out of it."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers.models import hooks_of
from helpers.processes import ROOT
from mmengine.config import Config
from mmengine.optim import OptimWrapper

import mmsrd
from mmsrd.errors import ConfigError
from mmsrd.teachers.build_model import build_model


@pytest.fixture
def block(distill):
    return dict(teacher=distill['teacher'], labels=False)


def called_by(model, arguments):
    called = set()
    names = {module: name for name, module in model.named_modules()}
    handles = [module.register_forward_pre_hook(lambda module, args: called.add(names[module]))
               for module in model.modules()]
    result = model(**arguments)
    for handle in handles:
        handle.remove()
    return called, result


def without_boxes(arguments):
    """As a data set without annotations gives it."""
    samples = copy.deepcopy(arguments['data_samples'])
    for sample in samples:
        del sample.gt_instances
    return dict(arguments, data_samples=samples)


@pytest.mark.parametrize('recomputes', [False, True])  # activation checkpointing of the toolboxes is reentrant
def test_only_what_can_learn_runs_and_learns(student, batch, block, recomputes):
    for module in student.backbone.modules():
        if hasattr(module, 'with_cp'):
            module.with_cp = recomputes
    before = {name: value.clone() for name, value in student.state_dict().items()}
    mmsrd.attach(student, block)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    optimizer = OptimWrapper(torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1))
    arguments = without_boxes(batch(student.train()))
    for _ in range(2):
        called, result = called_by(student, arguments)
        assert sorted(result) == ['loss_srd_neck', 'srd_alignment_neck']
        optimizer.update_params(student.parse_losses(result)[0])
    assert 'neck' in called
    assert not any(name.startswith('bbox_head') for name in called)
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    weights = {name for name, _ in student.named_parameters() if not name.startswith('distiller.')}
    assert {name for name in weights if name.startswith('backbone.')} <= changed
    assert not any(name.startswith('bbox_head') for name in changed)
    # Levels of the neck that the teacher does not have stay as they are, too.
    assert {name for name in weights if name.startswith('neck')} & changed
    for name, parameter in student.named_parameters():
        assert parameter.requires_grad == (name in changed or name.startswith('distiller.')), name


def test_the_loss_is_that_of_a_student_with_labels(student, batch, block):
    """The same features are compared, at a constant weight of 1."""
    arguments = batch(student.train())
    labelled = copy.deepcopy(student)
    mmsrd.attach(labelled, dict(block, labels=True))
    mmsrd.attach(student, block)
    expected, result = labelled(**arguments), student(**arguments)
    assert torch.equal(expected['loss_srd_neck'], result['loss_srd_neck'])
    loss, = student.distiller.feature_losses
    assert (loss.balance, loss.config.weight) == (None, 1.0)
    assert 'without labels: the student runs by extract_feat' in student.distiller.describe()


def test_a_balance_is_left_out(student, batch, block):
    losses = dict(a=dict(student='neck', teacher='neck', balance=3.0),
                  b=dict(student='backbone', teacher='backbone', weight=2.0))
    mmsrd.attach(student, dict(block, losses=losses))
    assert [(loss.balance, loss.config.weight) for loss in student.distiller.feature_losses] == [(None, 1), (None, 2)]
    assert 'losses have a weight instead of a balance' in student.distiller.describe()


def test_other_modes_are_the_students(student, batch, block):
    images = batch(student.eval(), mode='tensor')
    expected = student(**images)
    mmsrd.attach(student, block)
    for result, before in zip(student(**images), expected):
        assert all(torch.equal(level, other) for level, other in zip(result, before))


def test_a_copy_is_on_its_own(student, batch, block):
    """As EMA makes one: it runs its own weights."""
    mmsrd.attach(student, block)
    copied = copy.deepcopy(student)
    arguments = batch(student.train())
    before = copied(**arguments)['loss_srd_neck']
    with torch.no_grad():
        next(student.backbone.parameters()).mul_(3)
    assert torch.equal(copied(**arguments)['loss_srd_neck'], before)
    assert not torch.equal(student(**arguments)['loss_srd_neck'], before)


def test_detached_it_is_as_before(student, batch, block):
    flags = {name: parameter.requires_grad for name, parameter in student.named_parameters()}
    hooks, keys = hooks_of(student), list(vars(student))
    mmsrd.attach(student, block)
    mmsrd.detach(student)
    assert {name: parameter.requires_grad for name, parameter in student.named_parameters()} == flags
    assert (hooks_of(student), list(vars(student))) == (hooks, keys)
    assert 'loss_cls' in student(**batch(student))


def test_a_classifier_learns_from_logits(classifier_teacher):
    """Its teacher starts before it does; the head is part of what learns."""
    student = build_model(Config.fromfile(str(ROOT / 'configs/mmpretrain/digits/resnet8_digits-100.py')), 'student')
    mmsrd.attach(student, dict(teacher=dict(classifier_teacher, check=False), labels=False))
    result = student.train()(torch.rand(4, 3, 32, 32), mode='loss')
    losses = {name for name in result if name.startswith('loss')}
    assert losses == {'loss_srd_feature', 'loss_srd_logits'}
    student.parse_losses(result)[0].backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


@pytest.mark.parametrize(('options', 'message'), [
    (dict(schedule=dict(start=5)), 'distill.schedule.start = 5: with distill.labels=False'),
    (dict(schedule=dict(end=5)), 'distill.schedule.end = 5: with distill.labels=False'),
    (dict(schedule=dict(interval=2)), 'distill.schedule.interval = 2: with distill.labels=False'),
    (dict(teacher=dict(ema=dict())), 'distill.teacher: with distill.labels=False, an average'),
    (dict(labels='no'), "distill.labels = 'no': must be"),
    (dict(losses=dict(neck=dict(student='neck', teacher='neck', weight=0))), 'no distillation loss trains the student'),
])
def test_blocks_that_cannot_be(student, block, options, message):
    with pytest.raises(ConfigError, match=message):
        mmsrd.attach(student, {**block, **options})


def test_several_batches_are_refused(student, batch, block):
    mmsrd.attach(student, block)
    arguments = batch(student.train())
    with pytest.raises(ConfigError, match='distill.labels = False: inputs are several batches'):
        student({'sup': arguments['inputs']}, {'sup': arguments['data_samples']}, mode='loss')
