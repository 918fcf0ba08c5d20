"""MMPretrain classifiers are distilled by the same block."""
from __future__ import annotations

import pytest
import torch
from helpers.models import build_zoo
from mmpretrain.structures import DataSample, MultiTaskDataSample

import mmsrd
from mmsrd.config import PretrainedTeacherConfig
from mmsrd.errors import ConfigError, FeatureMismatchError
from mmsrd.teachers import PretrainedTeacher
from mmsrd.teachers.build_model import build_model
from mmsrd.utils.zoo import load_config


def test_token_counts_are_compared_at_one_image_size():
    """The teacher takes 224 pixels only, the student any size."""
    student = build_zoo('mmpretrain::deit/deit-tiny_4xb256_in1k.py')
    distiller = mmsrd.attach(student, dict(
        teacher=dict(config='mmpretrain::beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py', allow_random=True),
        losses=dict(tokens=dict(student='backbone.layers.1', teacher='backbone.layers.1'))))
    pair, = distiller.losses['tokens'].pairs
    assert pair.student_shape[1] == pair.teacher_shape[1] == 197


def test_older_files_that_the_model_converts_are_accepted(tmp_path):
    """Swin renames its last norm for files of version 1; stock loading takes them."""
    name = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'
    old = {k.replace('backbone.norm3.', 'backbone.norm.'): v for k, v in build_zoo(name).state_dict().items()}
    assert 'backbone.norm.weight' in old
    torch.save(dict(state_dict=old), tmp_path / 'old.pth')
    teacher = PretrainedTeacher(PretrainedTeacherConfig('k', name, str(tmp_path / 'old.pth')))
    teacher.load_weights()
    assert torch.equal(teacher.model.backbone.norm3.weight, old['backbone.norm.weight'])


def test_preset_of_a_classifier():
    student = build_zoo('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    distiller = mmsrd.attach(student, dict(
        teacher=dict(config='mmpretrain::resnet/resnet50_8xb32_in1k.py', allow_random=True)))
    assert distiller.losses['feature'].projectors[0].weight.shape == (2048, 512)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    started = []
    for name, model in (('student', student), ('teacher', distiller.teacher.model)):
        model.backbone.conv1.register_forward_hook(lambda *_, name=name: started.append(name))
    losses = student(inputs=torch.randn(4, 3, 64, 64), data_samples=samples, mode='loss')
    assert started == ['teacher', 'student']  # so that a GPU can run both at once
    assert set(losses) == {'loss', 'loss_srd_feature', 'srd_alignment_feature', 'loss_srd_logits'}
    losses['loss_srd_feature'].backward()
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    assert distiller.losses['logits'].config.student == distiller.losses['logits'].config.teacher == 'head.fc'
    student.zero_grad()
    student(inputs=torch.randn(4, 3, 64, 64), data_samples=samples, mode='loss')['loss_srd_logits'].backward()
    assert student.head.fc.weight.grad.abs().sum() > 0


def test_other_classes_are_an_error_for_logits_only():
    student = build_zoo('mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    teacher = dict(config='mmpretrain::resnet/resnet18_8xb32_in1k.py', allow_random=True)
    logits = dict(type='KLDivLoss', student='head.fc', teacher='head.fc')
    feature = dict(student='backbone', teacher='backbone', levels=[-1], pool=True)
    with pytest.raises(FeatureMismatchError, match='distill.losses.logits: the student has 10 classes and the teacher'):
        mmsrd.attach(student, dict(teacher=teacher, losses=dict(logits=logits, feature=feature)))
    mmsrd.attach(student, dict(teacher=teacher, losses=dict(feature=feature)))


def test_one_of_several_tasks():
    """The number of classes of the other task does not count."""
    config = load_config('mmpretrain::resnet/resnet18_8xb16_cifar10.py', 'k')
    tasks = dict(colour=dict(type='LinearClsHead', num_classes=3), kind=dict(type='LinearClsHead', num_classes=10))
    config.model.head = dict(type='MultiTaskHead', in_channels=512, task_heads=tasks)
    student = build_model(config, 'k')
    kind = dict(type='KLDivLoss', student='head.task_heads.kind.fc', teacher='head.fc')
    mmsrd.attach(student, dict(losses=dict(kind=kind), teacher=dict(
        config='mmpretrain::resnet/resnet34_8xb16_cifar10.py', allow_random=True)))
    sample = MultiTaskDataSample()
    for task in tasks:
        sample.set_field(DataSample().set_gt_label(1), task)
    losses = student(inputs=torch.randn(2, 3, 32, 32), data_samples=[sample, sample], mode='loss')
    assert losses['loss_srd_kind'] > 0


def test_preset_leaves_logits_of_other_classes_out():
    student = build_zoo('mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    distiller = mmsrd.attach(student, dict(
        teacher=dict(config='mmpretrain::resnet/resnet18_8xb32_in1k.py', allow_random=True)))
    assert list(distiller.losses) == ['feature']


def test_preset_of_another_task():
    teacher = dict(config='mmpretrain::resnet/resnet18_8xb32_in1k.py', allow_random=True)
    with pytest.raises(ConfigError, match="preset = 'detection': the student ImageClassifier is made for classif"):
        mmsrd.attach(build_zoo('mmpretrain::resnet/resnet18_8xb32_in1k.py'), dict(teacher=teacher, preset='detection'))
