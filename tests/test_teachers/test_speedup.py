"""A fast teacher says the same as the plain one, up to its precision; it starts early, and is gone after the end."""
from __future__ import annotations

import copy
import gc

import pytest
import torch
from helpers import srd_oracle as oracle
from helpers.models import with_random_norms
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

import mmsrd
from mmsrd.compat.torch_versions import TORCH
from mmsrd.config import InferenceConfig
from mmsrd.errors import TeacherError
from mmsrd.teachers.fuse_conv_bn import relative_difference
from mmsrd.teachers.speedup import SideStream, compile_parts, is_channels_last, stores_weights, teacher_dtype

PLAIN = dict(precision='fp32', fold=False, channels_last=False, stream=False)


def with_inference(distill, **options):
    block = copy.deepcopy(distill)
    block['teacher']['inference'] = options
    return block


def features_with(student, distill, data, **options):
    model = copy.deepcopy(student)
    teacher = mmsrd.attach(model, with_inference(distill, **options)).teacher
    features = teacher.features(data['inputs'], data['data_samples'])
    assert torch.equal(features['neck'][0], teacher.features(data['inputs'], data['data_samples'])['neck'][0])
    return features, teacher


@pytest.mark.parametrize(('options', 'limit'), [
    (dict(fold=True), 1e-5),  # float32, weights rounded once more
    (dict(channels_last=True), 1e-5),  # float32, sums in another order
    (dict(stream=True), 0),
    (dict(compile=dict(backend='eager')), 0),
    (dict(compile=dict(backend='aot_eager')), 1e-5),
    (dict(precision='bf16'), 0.03),  # 8 bits: 0.4 % a layer, of which there are about twenty
    (dict(precision='fp16'), 0.004),  # 11 bits
    (dict(fold=True, channels_last=True, stream=True, precision='bf16'), 0.03),
])
def test_the_same_features(student, distill, batch, options, limit):
    if options.get('precision') in ('bf16', 'fp16') and TORCH < (2, 1):
        pytest.skip('PyTorch 2.0 has no fp16 on the CPU, and its bf16 differs by 0.045 here')
    if options.get('precision') == 'fp16' and TORCH < (2, 4):
        pytest.skip('no fp16 autocast on the CPU')
    data = batch(student)
    expected, _ = features_with(student, distill, data, **PLAIN)
    got, teacher = features_with(student, distill, data, **{**PLAIN, **options})
    assert relative_difference(got, expected) <= limit
    for a, b in zip(got['neck'], expected['neck']):
        assert oracle.alignment(a.double().numpy(), b.double().numpy(), eps=0) >= 0.999
    kind = dict(bf16=torch.bfloat16, fp16=torch.float16).get(options.get('precision'), torch.float32)
    assert teacher.model.backbone.conv1.weight.dtype == got['neck'][0].dtype == kind


def test_precision_follows_the_student(student, distill, batch):
    data = batch(student)
    dtypes = []
    for precision in ('auto', 'fp32', 'bf16'):
        teacher = mmsrd.attach(copy.deepcopy(student), with_inference(distill, precision=precision)).teacher
        with torch.autocast('cpu', dtype=torch.bfloat16):
            dtypes.append(teacher.features(data['inputs'], data['data_samples'])['neck'][0].dtype)
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16]
    cuda, cpu = torch.device('cuda'), torch.device('cpu')
    auto, bf16, first = InferenceConfig(), InferenceConfig(precision='bf16'), InferenceConfig(channels_last=False)
    assert teacher_dtype(auto, torch.float16) == torch.float16
    assert teacher_dtype(auto, None) is None
    assert (stores_weights(auto, cuda), stores_weights(auto, cpu), stores_weights(bf16, cpu)) == (True, False, True)
    assert is_channels_last(auto, cuda, torch.float16)
    assert not is_channels_last(auto, cuda, None)
    assert not is_channels_last(first, cuda, torch.float16)


def test_stored_weights_work_without_autocast_too(student, distill, batch, monkeypatch):
    """As on CUDA: stored when the first step is under autocast, and then a validation loss that is not."""
    monkeypatch.setattr('mmsrd.teachers.speedup.stores_weights', lambda config, device: True)
    data = batch(student)
    mmsrd.attach(student, distill)
    for enabled in (True, False):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            assert torch.isfinite(student(**data)['loss_srd_neck'])
    assert student.distiller.teacher.model.backbone.conv1.weight.dtype == torch.bfloat16


def test_all_of_it_in_training(student, distill, batch):
    data = batch(student)
    losses = {}
    for name, options in dict(plain=PLAIN, fast=dict(precision='bf16', channels_last=True)).items():
        model = copy.deepcopy(student)
        mmsrd.attach(model, with_inference(distill, **options))
        losses[name] = model(**data)['loss_srd_neck']
        losses[name].backward()
        assert model.neck.lateral_convs[0].conv.weight.grad.abs().sum() > 0
    assert float(losses['fast']) == pytest.approx(float(losses['plain']), abs=0.02)  # bf16 features


def test_offloaded_in_half_precision(student, distill, batch):
    data = batch(student)
    block = with_inference(distill, precision='bf16')
    block['teacher']['offload'] = True
    got = mmsrd.attach(copy.deepcopy(student), block).teacher.features(data['inputs'], data['data_samples'])
    expected, _ = features_with(student, distill, data, precision='bf16')
    assert relative_difference(got, expected) == 0


def test_the_teacher_runs_before_the_students_head(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    order = []
    for name, module in dict(backbone=student.backbone, head=student.bbox_head.conv_reg,
                             teacher=distiller.teacher.model.backbone).items():
        module.register_forward_pre_hook(lambda module, args, name=name: order.append(name))
    student(**batch(student))
    assert order == ['backbone', 'teacher', *['head'] * 3]  # three levels
    order.clear()
    student(**batch(student, mode='tensor'))
    assert order == ['backbone', *['head'] * 3]


def test_early_and_late_are_the_same(student, distill, batch):
    data = batch(student)
    distiller = mmsrd.attach(student, distill)
    early = student(**data)['loss_srd_neck']
    distiller.recorders.start()  # outside of the student's own forward pass no teacher starts by itself
    student.neck(student.backbone(data['inputs']))
    late = distiller.compute_losses([(data['inputs'], data['data_samples'])])['loss_srd_neck']
    assert torch.equal(late, early)


@pytest.mark.skipif(TORCH < (2, 1), reason='hooks are not called after an exception')
def test_an_error_of_the_teacher_reaches_the_user(student, distill, batch):
    distiller = mmsrd.attach(student, distill)
    handle = distiller.teacher.model.backbone.register_forward_pre_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        student(**batch(student))
    assert not distiller.recorders.is_recording
    handle.remove()
    assert torch.isfinite(student(**batch(student))['loss_srd_neck'])


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(3))
        self.unused = nn.Sequential(nn.ReLU())


def test_the_largest_parts_without_recorded_modules_inside_are_compiled():
    net = nn.ModuleDict(dict(backbone=_Net(), neck=nn.Sequential(nn.Conv2d(4, 4, 1))))
    called = set(net.modules()) - {net['backbone'].unused, net['backbone'].stages}
    options = dict(backend='eager')
    assert compile_parts(copy.deepcopy(net), called, set(), options) == []  # the copy has other modules
    parts = compile_parts(net, called, {net['neck'], net['backbone'].stages[1]}, options)
    assert parts == [*net['backbone'].stages, net['neck']]


def test_work_without_a_device_is_done_at_once():
    stream = SideStream()
    assert stream.run(lambda: 3, torch.device('cpu')) == 3
    stream.synchronize()
    assert isinstance(copy.deepcopy(stream), SideStream)


@pytest.mark.parametrize('kind', [dict(), dict(offload=True), dict(ema=dict())])
def test_after_the_end_the_teacher_is_gone(student, distill, batch, kind):
    block = dict(distill, schedule=dict(end=1))
    block['teacher'] = kind if 'ema' in kind else dict(block['teacher'], **kind)
    distiller = mmsrd.attach(student, block)
    data = batch(student)
    first = student(**data)
    assert float(first['loss_srd_neck'].detach()) != 0
    distiller.update_ema(student)
    teacher = distiller.teacher
    held = [StorageWeakRef(x.untyped_storage()) for x in (*teacher.model.parameters(), *teacher.model.buffers())]
    second = student(**data)
    assert float(second['loss_srd_neck'].detach()) == 0
    second['loss_srd_neck'].backward()  # to zeros, which distributed training waits for
    assert all(p.grad is not None and not p.grad.any() for p in distiller.parameters())
    distiller.update_ema(student)
    gc.collect()
    teacher = distiller.teacher
    assert all(x.is_meta for x in (*teacher.model.parameters(), *teacher.model.buffers()))
    assert all(storage.expired() for storage in held)
    with pytest.raises(TeacherError, match='distill.teacher: the teacher was released when distillation ended'):
        teacher.features(data['inputs'], None)


def test_what_is_no_training_step_releases_nothing(student, distill, batch):
    """Validation losses do not count, and a copy of the student leaves the teacher that it shares alone."""
    distiller = mmsrd.attach(student, dict(distill, schedule=dict(end=2)))
    data = batch(student)
    with torch.no_grad():
        for _ in range(3):
            student(**data)
    assert distiller.progress.iteration == 0
    duplicate = copy.deepcopy(student)
    for _ in range(4):
        duplicate(**data)
    assert duplicate.distiller.progress.iteration == 4
    assert not distiller.teacher.released
    assert float(student(**data)['loss_srd_neck'].detach()) != 0


def test_an_average_of_the_student_is_left_as_it_is(student, distill, batch):
    distill['teacher'] = dict(ema=dict(momentum=0.5))
    distiller = mmsrd.attach(with_random_norms(student).requires_grad_(True), distill)
    before = list(distiller.teacher.model.state_dict())
    student(**batch(student))
    assert list(distiller.teacher.model.state_dict()) == before
