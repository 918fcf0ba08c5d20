"""Several teachers at once, and a teacher that is an average of the student."""
from __future__ import annotations

import copy
import weakref

import pytest
import torch
from helpers.weights import same
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import ExponentialMovingAverage

import mmsrd
from mmsrd.errors import CheckpointError, ConfigError
from mmsrd.teachers.ema_teacher import EMATeacher
from mmsrd.teachers.weight_average import WeightAverage

SRD = dict(student='neck', teacher='neck', weight=2.0)


@pytest.fixture
def two(distill, tmp_path):
    """The tiny pair's teacher, and one of half its widths, each with a loss."""
    other = Config.fromfile(distill['teacher']['config'])
    other.model.neck.out_channels = other.model.bbox_head.in_channels = 32
    other.dump(str(tmp_path / 'other.py'))
    return dict(
        teachers=dict(big=distill['teacher'], small=dict(config=str(tmp_path / 'other.py'), allow_random=True)),
        losses=dict(a=dict(SRD, from_teacher='big'), b=dict(SRD, from_teacher='small')))


def test_each_loss_has_its_own_teacher(student, batch, two, distill):
    alone = copy.deepcopy(student)
    mmsrd.attach(student, two)
    distiller = student.distiller
    assert [distiller.losses[name].projectors[0].weight.shape for name in 'ab'] == [(64, 32), (32, 32)]
    losses = student(**batch(student))
    assert {'loss_srd_a', 'loss_srd_b', 'srd_alignment_a', 'srd_alignment_b'} < set(losses)
    # Loss a is what it is with its teacher alone, given the same projectors.
    single = dict(teacher=distill['teacher'], losses=dict(a=SRD))
    mmsrd.attach(alone, single)
    alone.distiller.losses['a'].projectors.load_state_dict(distiller.losses['a'].projectors.state_dict())
    assert torch.equal(alone(**batch(alone))['loss_srd_a'], losses['loss_srd_a'])
    with pytest.raises(LookupError, match='there are 2 teachers'):
        _ = distiller.teacher


def test_presets_name_the_teacher(student, two):
    two.pop('losses')
    assert list(mmsrd.attach(student, two).losses) == ['big_neck', 'small_neck']


def test_a_teacher_that_nobody_learns_from(student, two):
    two['losses']['b']['from_teacher'] = 'big'
    with pytest.raises(ConfigError, match=r"teachers\.small: no loss uses it.*from_teacher='small'"):
        mmsrd.attach(student, two)
    assert not hasattr(student, 'distiller')


def test_weights_of_one_are_missing(student, two):
    two['teachers']['big']['checkpoint'] = '/nowhere.pth'
    with pytest.raises(CheckpointError, match=r"big\.checkpoint = '/nowhere.pth': no such"):
        mmsrd.attach(student, two)
    assert not hasattr(student, 'distiller')


def test_an_average_follows_the_student(student, batch):
    """After each step: average ← (1 − m) · average + m · student, weights and buffers; here for two steps."""
    momentum = 0.25
    distiller = mmsrd.attach(student, dict(teacher=dict(ema=dict(momentum=momentum)), losses=dict(neck=SRD)))
    average = {k: v.clone() for k, v in student.state_dict().items()}
    assert same(distiller.teacher.model.state_dict(), average)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for wrapped in (student, torch.nn.DataParallel(student)):
        student.parse_losses(student(**batch(student)))[0].backward()
        optimizer.step()
        distiller.update_ema(wrapped)
        for k, v in student.state_dict().items():
            if v.is_floating_point():
                average[k] = (1 - momentum) * average[k] + momentum * v
    for k, v in distiller.teacher.model.state_dict().items():
        if v.is_floating_point():
            torch.testing.assert_close(v, average[k], msg=k)
    assert not any(p.requires_grad for p in distiller.teacher.model.parameters())
    assert not any('average' in k or 'teacher' in k for k in student.state_dict())


def test_an_average_starts_with_the_weights_of_the_first_loss_pass(student, batch, monkeypatch):
    """DistributedDataParallel gives all processes the same weights after ``attach``."""
    distiller = mmsrd.attach(student, dict(teacher=dict(ema=dict(momentum=0.25)), losses=dict(neck=SRD)))
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    data = batch(student)
    within = []
    move_to = EMATeacher.move_to
    monkeypatch.setattr(EMATeacher, 'move_to', lambda *args: [within.append(torch.is_inference_mode_enabled()),
                                                              move_to(*args)])
    with torch.inference_mode():
        student(**data)  # a validation before training
    assert within == [False]  # what is moved in inference mode cannot be updated
    before = copy.deepcopy(student.state_dict())  # batch statistics change in the pass
    student(**data)
    assert same(distiller.teacher.model.state_dict(), before)


class Snapshot(Hook):
    """Keeps one weight as it was before the first step."""

    weight = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.weight is None:
            self.weight = runner.model.bbox_head.conv_cls.weight.detach().clone()


def test_an_average_starts_from_the_initialised_student(make_runner):
    """Weights are initialised after the runner has been built, so the average must wait for them."""
    runner = make_runner('run', dict(teacher=dict(ema=dict(momentum=1e-6)), losses=dict(neck=SRD)))
    built = runner.model.bbox_head.conv_cls.weight.detach().clone()
    snapshot = Snapshot()
    runner.register_hook(snapshot)
    runner.train()
    average = runner.model.distiller.teacher.model.bbox_head.conv_cls.weight
    torch.testing.assert_close(average, snapshot.weight, rtol=0, atol=1e-5)  # eight updates of a millionth
    assert (average - built).abs().max() > 1e-3


def test_an_average_follows_after_a_move(student, batch, monkeypatch):
    """A move to another device replaces the tensors of a module; MMEngine's average keeps references to the old."""
    distiller = mmsrd.attach(student, dict(teacher=dict(ema=dict(momentum=0.5)), losses=dict(neck=SRD)))
    teacher = distiller.teacher
    teacher.move_to(torch.device('meta'))
    teacher.average.to_empty(device='cpu')  # meta tensors have no values to move
    teacher.load_state({'steps': torch.tensor(1), **{
        f'module.{k}': v for k, v in student.state_dict().items()}})
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    before = teacher.model.neck.lateral_convs[0].conv.weight.clone()
    distiller.update_ema(student)
    torch.testing.assert_close(teacher.model.neck.lateral_convs[0].conv.weight, before + 0.5)


def test_an_average_in_half_precision_stays_exact(student, batch):
    """The teacher computes with bf16 weights; what is averaged, saved and resumed are those in float32 beside them."""
    plain, stored = (WeightAverage(student, 0.25) for _ in range(2))
    stored.store(torch.bfloat16)
    reference = ExponentialMovingAverage(student, 0.25, update_buffers=True)
    for _ in range(3):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(torch.randn_like(p))
        for average in (plain, stored, reference):
            average.update_parameters(student)
    stored.move_to(torch.device('cpu'))
    assert same(plain.module.state_dict(), reference.module.state_dict())  # MMEngine's, bit for bit
    assert same(stored.state(), plain.state())
    weight, half = (average.module.neck.lateral_convs[0].conv.weight for average in (plain, stored))
    assert torch.equal(half, weight.bfloat16())
    assert stored.module.backbone.bn1.weight.dtype == torch.float32
    resumed = WeightAverage(student, 0.25)
    resumed.store(torch.bfloat16)
    resumed.load(stored.state())
    assert same(resumed.state(), plain.state())
    assert same(resumed.module.state_dict(), stored.module.state_dict())
    resumed.update_parameters(student)
    plain.update_parameters(student)
    assert same(resumed.state(), plain.state())


@pytest.mark.parametrize('half', [False, True])
def test_a_shared_weight_is_averaged_once(half):
    """As in RTMDet's head, whose levels share convolutions."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    average = WeightAverage(model, 0.25)
    if half:
        average.store(torch.bfloat16)
    for value in (1.0, 5.0):
        torch.nn.init.constant_(model[0].weight, value)
        average.update_parameters(model)
    assert average.state()['module.0.weight'].unique().tolist() == [2.0]  # 0.75 · 1 + 0.25 · 5
    assert average.module[1].weight.unique().tolist() == [2.0]


def test_a_released_average_holds_nothing(student):
    average = WeightAverage(student, 0.25)
    average.store(torch.bfloat16)
    kept = weakref.ref(average.avg_parameters['neck.lateral_convs.0.conv.weight'])
    average.release()
    assert kept() is None
