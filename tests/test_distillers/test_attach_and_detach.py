"""Attaching runs each model once; detaching leaves the student as it was."""
from __future__ import annotations

import copy
import io
import pickle
from collections import Counter

import pytest
import torch
from helpers.models import build_zoo, hooks_of
from helpers.two_levels import TwoLevels, block, loss
from helpers.weights import same

import mmsrd
from mmsrd.distillers import attach_distiller, read_block
from mmsrd.errors import ConfigError
from mmsrd.teachers import pretrained_teacher

RESNET = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'


def pickled(model):
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


@pytest.mark.parametrize('teacher', ['trained', 'average'])
def test_detach_leaves_the_student_as_it_was(student, distill, batch, teacher):
    if teacher == 'average':
        distill['teacher'] = dict(ema=dict(momentum=0.1))
    plain = copy.deepcopy(student)
    hooks, data = hooks_of(student), batch(student)
    student.eval()
    plain.eval()
    mmsrd.attach(student, distill)
    assert hooks_of(student) != hooks
    student(**data)['loss_srd_neck'].backward()
    student.zero_grad()
    mmsrd.detach(student)
    assert hooks_of(student) == hooks
    assert [name for name, _ in student.named_modules()] == [name for name, _ in plain.named_modules()]
    assert vars(student).keys() == vars(plain).keys()
    assert same(student.state_dict(), plain.state_dict())
    assert student.state_dict()._metadata == plain.state_dict()._metadata
    losses, expected = student(**data), plain(**data)
    assert list(losses) == list(expected)
    assert all(torch.equal(losses[name], expected[name]) for name in expected)
    restored = pickled(student)
    assert same(restored.state_dict(), plain.state_dict())
    assert len(pickle.dumps(student)) == pytest.approx(len(pickle.dumps(plain)), rel=1e-3)  # no teacher inside
    with pytest.raises(RuntimeError, match='Missing key'):  # the load hook that forgives missing projectors is gone
        student.load_state_dict({})
    mmsrd.attach(student, distill)
    assert 'loss_srd_neck' in student(**data)


def test_detach_a_copy(student, distill, batch):
    mmsrd.attach(student, distill)
    copied = copy.deepcopy(student)
    mmsrd.detach(copied)
    assert 'loss_srd_neck' not in copied(**batch(copied))
    assert 'loss_srd_neck' in student(**batch(student))


def test_detach_what_is_not_attached(student):
    with pytest.raises(ConfigError, match='FCOS has no distiller to detach'):
        mmsrd.detach(student)


@pytest.mark.parametrize(('student', 'teacher', 'losses'), [
    ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', None),
    ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
     dict(a=dict(student='neck', teacher='neck'), b=dict(student='backbone', teacher='backbone'))),
    (RESNET, RESNET, None),
    ('mmpretrain::vgg/vgg11_8xb32_in1k.py', RESNET, None),
    (RESNET, 'mmpretrain::deit/deit-tiny_4xb256_in1k.py', None),
    (RESNET, 'mmpretrain::mlp_mixer/mlp-mixer-base-p16_64xb64_in1k.py', None),  # takes images of 224 pixels only
])
def test_one_dry_run_of_each_model(student, teacher, losses, monkeypatch):
    """And two forward passes of the teacher before training, which compare its features before and after fusing."""
    model = build_zoo(student)
    forwards = Counter()
    model.backbone.register_forward_hook(lambda *args: forwards.update(['student']))
    asked = dict(teacher=dict(config=teacher, allow_random=True))
    setup = read_block(asked if losses is None else {**asked, 'losses': losses})
    built = pretrained_teacher.build_model

    def counted(*args, **options):
        made = built(*args, **options)
        made.backbone.register_forward_hook(lambda *args: forwards.update(['teacher']))
        return made

    monkeypatch.setattr(pretrained_teacher, 'build_model', counted)
    distiller = attach_distiller(model, setup)
    # Three more of a teacher where images may have any size; a model of one size fails before its backbone is run.
    of_any_size = student.startswith('mmpretrain') and 'mixer' not in teacher
    assert forwards == dict(student=1, teacher=4 if of_any_size else 1)
    distiller.teachers.prepare()
    assert forwards['student'] == 1
    assert forwards['teacher'] in (1, 3, 4, 6)  # nothing to fuse in a transformer


def test_the_seed_of_a_device_that_is_not_used_yet(student, distill, monkeypatch):
    """PyTorch keeps the last seed that was asked for until it starts the device; it cannot be read before."""
    seeds = []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeds.append)
    torch.manual_seed(1234)
    mmsrd.attach(student, distill)
    assert seeds[-1] == 1234


def test_one_setup_serves_several_students():
    """Each gets modules of its own."""
    config = read_block(block(a=loss('neck.0'), b=loss('neck.1', balance=1.0)))
    first, second = (attach_distiller(TwoLevels(), config) for _ in range(2))
    assert not set(first.modules()) & set(second.modules())
    assert {p.data_ptr() for p in first.parameters()}.isdisjoint(p.data_ptr() for p in second.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


@pytest.mark.parametrize('wrap', [torch.nn.DataParallel, torch.compile], ids=['DataParallel', 'compiled'])
def test_a_wrapped_student(wrap):
    """Projectors outside of the wrapper would not be synchronised; and inside it could not be taken away."""
    student = TwoLevels()
    with pytest.raises(ConfigError, match=r'mmsrd\.attach: the model is within \w+; give attach the model itself'):
        mmsrd.attach(wrap(student), block(a=loss('neck.0')))
    distiller = mmsrd.attach(student, block(a=loss('neck.0')))
    with pytest.raises(ConfigError, match=r'mmsrd\.detach: the model is within \w+; give detach the model itself'):
        mmsrd.detach(wrap(student))
    with torch.no_grad():
        student.head.weight.add_(1.0)
    distiller.update_ema(wrap(student))
    assert same(distiller.teacher.model.state_dict(), student.state_dict())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_a_student_of_another_precision(dtype):
    with pytest.raises(ConfigError, match=rf'TwoLevels has trainable parameters of {dtype}; a student is trained in'):
        mmsrd.attach(TwoLevels().to(dtype), block(a=loss('neck.0')))
