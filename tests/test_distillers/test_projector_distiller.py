"""The distiller attached to a built model: what it adds, what it leaves alone."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers import srd_oracle as oracle
from mmengine.config import Config

import mmsrd
from mmsrd.compat.torch_versions import TORCH
from mmsrd.distillers import ProjectorDistiller
from mmsrd.errors import FeatureMismatchError, TapError
from mmsrd.models.losses import BaseDistillLoss


def step(model, batch):
    """Total loss as MMEngine computes it: the sum of entries with 'loss' in their names."""
    losses = model(**batch)
    return sum(v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if 'loss' in k), losses


def test_loss_equals_the_formula_on_the_recorded_features(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    data = batch(student)
    recorded = {}
    student.neck.register_forward_hook(lambda m, a, out: recorded.update(student=out))
    distiller.teacher.model.neck.register_forward_hook(lambda m, a, out: recorded.update(teacher=out), prepend=True)
    _, losses = step(student, data)
    values, alignments = [], []
    projectors = distiller.losses['neck'].projectors
    for projector, s, t in zip(projectors, recorded['student'], recorded['teacher']):
        projected = torch.einsum('oc,nchw->nohw', projector.weight.double(), s.double()).detach().numpy()
        values.append(oracle.elementwise(projected, t.double().numpy(), 4))
        alignments.append(oracle.alignment(projected, t.double().numpy()))
    # float32 forward passes; the smallest level has only eight rows, whose statistics amplify rounding.
    assert losses['loss_srd_neck'].item() == pytest.approx(2.0 * sum(values) / 3, rel=1e-3)
    assert losses['srd_alignment_neck'].item() == pytest.approx(sum(alignments) / 3, abs=1e-3)


def test_gradients_reach_projectors_and_student_but_not_the_teacher(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    data = batch(student)
    teacher_before = copy.deepcopy(distiller.teacher.model.state_dict())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    held = {id(p) for group in optimizer.param_groups for p in group['params']}
    loss = student(**data)['loss_srd_neck']
    loss.backward()
    for name, parameter in distiller.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        assert id(parameter) in held
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.model.parameters())
    assert not {id(p) for p in distiller.teacher.model.parameters()} & held
    after = distiller.teacher.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in teacher_before.items())  # batch statistics included


def test_the_student_stays_what_it_is(student, distill):
    kind, keys = type(student), list(student.state_dict())
    metadata = set(student.state_dict()._metadata)
    mmsrd.attach(student, distill)
    assert type(student) is kind
    assert list(student.state_dict()) == keys
    assert set(student.state_dict()._metadata) == metadata
    assert isinstance(student.distiller, ProjectorDistiller)
    assert len(list(student.distiller.parameters())) == 3
    assert student.load_state_dict(student.state_dict()).missing_keys == []


def test_state_dict_of_the_distiller_is_its_own(student, distill):
    distiller = mmsrd.attach(student, distill)
    assert list(distiller.state_dict()) == [f'losses.neck.projectors.{i}.weight' for i in range(3)]


def test_attaching_leaves_all_random_states(student, distill):
    import random

    import numpy as np
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    mmsrd.attach(student, distill)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


def test_other_modes_are_untouched(student, distill, batch):
    student.eval()
    data = batch(student, mode='tensor')
    before = student(**data)
    distiller = mmsrd.attach(student, distill)
    calls = []
    distiller.teacher.model.backbone.register_forward_hook(lambda *a: calls.append(1))
    after = student(**data)
    assert all(torch.equal(a, b) for x, y in zip(before, after) for a, b in zip(x, y))
    for sample in data['data_samples']:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    student(data['inputs'], data['data_samples'], mode='predict')
    assert not calls


def test_positional_arguments(student, distill, batch):
    mmsrd.attach(student, distill)
    data = batch(student)
    assert 'loss_srd_neck' in student(data['inputs'], data['data_samples'], 'loss')


def test_the_teacher_stops_at_its_deepest_tap(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    calls = []
    model = distiller.teacher.model
    for name in ('backbone', 'neck', 'bbox_head.conv_cls'):
        model.get_submodule(name).register_forward_hook(lambda m, a, o, name=name: calls.append(name), prepend=True)
    student.neck.register_forward_hook(lambda *a: calls.append("the student's neck"), prepend=True)
    student(**batch(student))
    assert calls == ["the student's neck", 'backbone', 'neck']
    assert not any(m.training for m in model.modules())


def test_a_deeper_tap_lets_the_teacher_run_further(student, distill, batch):
    distill['losses']['cls'] = dict(student='bbox_head.conv_cls', teacher='bbox_head.conv_cls')
    distiller = mmsrd.attach(student, distill)
    calls = []
    distiller.teacher.model.bbox_head.conv_reg.register_forward_hook(lambda *a: calls.append(1))
    losses = student(**batch(student))
    assert torch.isfinite(losses['loss_srd_cls'])
    assert [p.student for p in distiller.losses['cls'].pairs] == [0, 1, 2]  # the shared head is called for each level
    assert len(calls) == 2  # all levels but the last, where the last class map ends the pass before the box map


def test_schedule(student, distill, batch):
    distill['schedule'] = dict(start=1, end=4, warmup=2)
    distiller = mmsrd.attach(student, distill)
    data = batch(student)
    student.eval()  # the same loss in each pass: batch statistics stay
    calls = []
    distiller.teacher.model.backbone.register_forward_hook(lambda *a: calls.append(1))
    seen = []
    for _ in range(6):
        loss, losses = step(student, data)
        loss.backward()
        assert all(p.grad is not None for p in distiller.parameters())  # also outside of the window: DDP needs it
        seen.append((losses['loss_srd_neck'].item(), 'srd_alignment_neck' in losses, len(calls)))
    full = seen[2][0]
    assert full > 0
    assert [s[0] for s in seen] == pytest.approx([0, full / 2, full, full, 0, 0], rel=1e-5)
    assert [s[1] for s in seen] == [False, True, True, True, False, False]
    assert [s[2] for s in seen] == [0, 1, 2, 3, 3, 3]  # after the end the teacher does not run


def test_weight_zero_still_shows_alignment(student, distill, batch):
    distill['losses']['neck']['weight'] = 0
    mmsrd.attach(student, distill)
    losses = student(**batch(student))
    assert losses['loss_srd_neck'].item() == 0
    assert losses['srd_alignment_neck'].item() != 0


def test_processes_work_together_at_weight_zero(student, distill, batch):
    """For the alignment that is logged; not in a validation loss, which may be of one of them alone."""
    shared = []

    class Listening(BaseDistillLoss):
        def compare(self, student, teacher, reduce):
            shared.append(self.shares)
            return student.mean()

    distill['losses']['neck'] = dict(type=Listening, student='neck', teacher='neck', weight=0.0)
    mmsrd.attach(student, distill)
    data = batch(student)
    step(student, data)
    with torch.no_grad():
        step(student, data)
    assert shared == [True] * 3 + [False] * 3


def test_levels_resizing_pooling_and_no_projector(student, distill, batch):
    distill['losses'] = dict(
        pairs=dict(student='neck', teacher='neck', levels=[(0, 1), (2, 2)]),
        up=dict(student='backbone.layer2', teacher='backbone.layer1', resize='to_teacher'),
        down=dict(student='backbone.layer2', teacher='backbone.layer1', resize='to_student'),
        pooled=dict(student='backbone', teacher='backbone', levels=[-1], pool=True, form='correlation'),
        bare=dict(student='backbone.layer3', teacher='backbone.layer1', pool=True, projector=None, alpha=2))
    distiller = mmsrd.attach(student, distill)
    assert [(p.student, p.teacher) for p in distiller.losses['pairs'].pairs] == [(0, 1), (2, 2)]
    assert [(p.student, p.teacher) for p in distiller.losses['pooled'].pairs] == [(2, 2)]
    assert distiller.losses['pooled'].projectors[0].weight.shape == (128, 32)
    losses = student(**batch(student))
    assert all(torch.isfinite(losses[f'loss_srd_{name}']) for name in distill['losses'])
    assert losses['loss_srd_up'] != losses['loss_srd_down']
    assert len(list(distiller.losses['bare'].projectors.parameters())) == 0


def test_levels_by_stride(student, distill, batch):
    """A student's level before its neck is compared with the teacher's map of the same size."""
    distill['losses'] = dict(layer=dict(student='backbone.layer2', teacher='neck', levels='stride'))
    distiller = mmsrd.attach(student, distill)
    pair, = distiller.losses['layer'].pairs
    assert pair.strides[0] == pair.strides[1]
    assert torch.isfinite(student(**batch(student))['loss_srd_layer'])


def test_preset_by_default(student, distill, batch):
    distill.pop('losses')
    distiller = mmsrd.attach(student, distill)
    assert list(distiller.losses) == ['neck']
    assert distiller.losses['neck'].config.balance == 1.0


@pytest.mark.skipif(TORCH < (2, 1), reason='hooks are not called after an exception')
def test_an_exception_leaves_no_feature_behind(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    data = batch(student)
    handle = student.bbox_head.register_forward_hook(lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        student(**data)
    assert not distiller.recorders.is_recording
    assert set(distiller.recorders.num_calls.values()) == {0}
    handle.remove()
    assert 'loss_srd_neck' in student(**data)


@pytest.mark.parametrize('path', ['backbone.layer1', 'backbone.layer3.1.conv2'], ids=['frozen', 'checkpointed'])
def test_a_feature_without_gradient_is_an_error(student, distill, batch, path):
    if path == 'backbone.layer1':
        for name in ('conv1', 'bn1', 'layer1'):
            student.backbone.get_submodule(name).requires_grad_(False)
    else:
        student.backbone.layer3[1].with_cp = True
    distill['losses'] = dict(early=dict(student=path, teacher=path))
    mmsrd.attach(student, distill)
    with pytest.raises(TapError, match=f"distill.losses.early.student = '{path}': the feature carries no gradient"):
        student(**batch(student))


def test_a_tap_before_an_activation_in_place_compares_what_it_names(student, distill, batch, student_config):
    """The same network on both sides: any bn1, which the block's ReLU overwrites, is perfectly aligned."""
    distill['teacher'] = dict(config=Config(dict(model=student_config.model.to_dict(), default_scope='mmdet')),
                              allow_random=True, inference=dict(fold=False))
    distill['losses'] = dict(bn=dict(student='backbone.layer3.1.bn1', teacher='backbone.layer3.1.bn1', projector=None))
    distiller = mmsrd.attach(student, distill)
    distiller.teacher.model.load_state_dict(student.state_dict())
    student.eval()
    assert student(**batch(student))['srd_alignment_bn'] > 0.99


def test_fewer_levels_than_in_the_dry_run(student, distill):
    distiller = mmsrd.attach(student, distill)
    with pytest.raises(FeatureMismatchError, match="'neck' gave 1 and 'neck' 1 levels in this step"):
        distiller.losses['neck']([torch.randn(2, 32, 4, 4, requires_grad=True)], [torch.randn(2, 64, 4, 4)])


def test_a_student_with_branches_compares_each_with_the_teacher(student, distill):
    """TridentNet trains with three branches, whose images it stacks; its dry run has one."""
    distill['losses']['neck']['levels'] = [0]
    distiller = mmsrd.attach(student, distill)
    generator = torch.Generator().manual_seed(0)
    branches = torch.randn(3, 2, 32, 8, 8, generator=generator)
    own = torch.randn(2, 64, 8, 8, generator=generator)
    rest = [torch.zeros(2, 1, 1, 1)] * 2
    with torch.no_grad():
        stacked = distiller.losses['neck']([branches.flatten(0, 1), *rest], [own, *rest])[0]
        by_hand = distiller.losses['neck'].criterion(
            distiller.losses['neck'].projectors[0](branches.flatten(0, 1)), torch.stack([own] * 3).flatten(0, 1))[0]
        assert stacked == by_hand
        with pytest.raises(FeatureMismatchError, match=r'student \(3, 64, 8, 8\) and teacher \(2, 64, 8, 8\)'):
            distiller.losses['neck']([branches[0, :1].expand(3, -1, -1, -1), *rest], [own, *rest])


def test_a_deep_copy_shares_the_teacher_and_copies_the_rest(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    copied = copy.deepcopy(student)
    assert copied.distiller.teacher is distiller.teacher
    assert copied.distiller.losses['neck'].projectors[0].weight is not distiller.losses['neck'].projectors[0].weight
    data = batch(student)
    student.eval()
    copied.eval()
    with torch.no_grad():
        copied.distiller.losses['neck'].projectors[0].weight.zero_()
    a, b = student(**data), copied(**data)
    assert a['loss_cls'] == b['loss_cls']
    assert a['loss_srd_neck'] != b['loss_srd_neck']  # the copy's hooks act on the copy


def test_a_random_teacher_must_be_asked_for(student, distill, batch):
    distill['teacher'] = dict(config=distill['teacher']['config'], allow_random=True)
    mmsrd.attach(student, distill)
    assert torch.isfinite(student(**batch(student))['loss_srd_neck'])


@pytest.mark.parametrize('dtype', [torch.bfloat16])
def test_autocast(student, distill, batch, dtype):
    mmsrd.attach(student, distill)
    data = batch(student)
    with torch.autocast('cpu', dtype=dtype):
        losses = student(**data)
    assert losses['loss_srd_neck'].dtype == torch.float32
    losses['loss_srd_neck'].backward()
    assert all(p.grad.isfinite().all() for p in student.distiller.parameters())


def test_a_validation_loss_in_inference_mode(student, distill, batch):
    """It is no step, and training goes on after it."""
    distiller = mmsrd.attach(student, distill)
    data = batch(student)
    with torch.inference_mode():
        assert student(**data)['loss_srd_neck'].isfinite()
    assert distiller.progress.iteration == 0
    student(**data)['loss_srd_neck'].backward()
    assert distiller.progress.iteration == 1


def test_autocast_within_the_student(student, distill, batch):
    """As Accelerate switches it on: the hooks of the student are outside of it, those of its parts within."""
    mmsrd.attach(student, distill)
    data = batch(student)
    with torch.autocast('cpu', torch.bfloat16):
        expected = student(**data)
    student.forward = torch.autocast('cpu', torch.bfloat16)(student.forward)
    losses = student(**data)
    assert torch.equal(losses['loss_srd_neck'], expected['loss_srd_neck'])
    losses['loss_srd_neck'].backward()


def test_a_copy_after_the_end(student, distill, batch):
    """An EMA copy of the student has a schedule of its own, which stands still; the teacher is gone for it, too."""
    distiller = mmsrd.attach(student, {**distill, 'schedule': dict(end=1)})
    copied, data = copy.deepcopy(student), batch(student)
    for _ in range(2):
        student(**data)
    assert distiller.teachers.released
    with torch.no_grad():
        losses = copied(**data)
    assert losses['loss_srd_neck'] == 0
    assert losses['loss_cls'] > 0
