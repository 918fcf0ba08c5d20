"""Several teachers at once, and a teacher that is an average of the student."""
from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from test_training import load, same

import mmsrd
from mmsrd.errors import CheckpointError, ConfigError, UnknownKeyError

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
    assert [distiller.projectors[name][0].weight.shape for name in 'ab'] == [(64, 32), (32, 32)]
    losses = student(**batch(student))
    assert {'loss_srd_a', 'loss_srd_b', 'srd_alignment/a', 'srd_alignment/b'} < set(losses)
    # Loss a is what it is with its teacher alone, given the same projectors.
    single = dict(teacher=distill['teacher'], losses=dict(a=SRD))
    mmsrd.attach(alone, single)
    alone.distiller.projectors['a'].load_state_dict(distiller.projectors['a'].state_dict())
    assert torch.equal(alone(**batch(alone))['loss_srd_a'], losses['loss_srd_a'])
    with pytest.raises(LookupError, match='there are 2 teachers'):
        _ = distiller.teacher


def test_presets_name_the_teacher(student, two):
    two.pop('losses')
    assert list(mmsrd.attach(student, two).configs) == ['big_neck', 'small_neck']


def _set(block, path, value):
    *parents, last = path.split('.')
    for key in parents:
        block = block[key]
    block[last] = value


@pytest.mark.parametrize(('path', 'value', 'kind', 'message'), [
    ('losses.a.from_teacher', 'huge', ConfigError,
     r"losses\.a\.from_teacher = 'huge': is not a teacher; `distill.teachers` has 'big', 'small'"),
    ('losses.a.from_teacher', None, ConfigError, r'losses\.a\.from_teacher: is required where there are several'),
    ('losses.b.from_teacher', 'big', ConfigError, r"teachers\.small: no loss learns from it.*from_teacher='small'"),
    ('teachers', {}, ConfigError, r'distill\.teachers: is empty'),
    ('teachers', {'a b': {}}, ConfigError, r"distill\.teachers = 'a b': a teacher name may have"),
    ('teachers.big.checkpoint', '/nowhere.pth', CheckpointError, r"big\.checkpoint = '/nowhere.pth': no such"),
    ('teachers.big.ema', {}, ConfigError, r'teachers\.big\.ema: an average of the student has no config, checkpoint'),
    ('teacher', {}, ConfigError, r'distill\.teachers: cannot be combined with `distill\.teacher`'),
])
def test_wrong_teachers(student, two, path, value, kind, message):
    _set(two, path, value)
    with pytest.raises(kind, match=message):
        mmsrd.attach(student, two)
    assert not hasattr(student, 'distiller')


@pytest.mark.parametrize(('ema', 'kind', 'message'), [
    (dict(momentum=0), ConfigError, r'ema\.momentum = 0: must be between 0 and 1'),
    (dict(momentum='0.1'), ConfigError, r"ema\.momentum = '0\.1': must be a number"),
    (dict(decay=0.9), UnknownKeyError, r"teacher\.ema: unknown key 'decay'"),
    (0.9, ConfigError, r'teacher\.ema = 0\.9: must be a dict'),
])
def test_wrong_averages(student, ema, kind, message):
    with pytest.raises(kind, match=message):
        mmsrd.attach(student, dict(teacher=dict(ema=ema), losses=dict(neck=SRD)))


def test_from_teacher_with_one_teacher(student, distill):
    distill['losses']['neck']['from_teacher'] = 'big'
    with pytest.raises(ConfigError, match=r"from_teacher = 'big': is not a teacher; there is one `distill.teacher`"):
        mmsrd.attach(student, distill)


def test_an_average_follows_the_student(student, batch):
    """After each step: average ← (1 − m) · average + m · student, weights and buffers; here for two steps."""
    momentum = 0.25
    distiller = mmsrd.attach(student, dict(teacher=dict(ema=dict(momentum=momentum)), losses=dict(neck=SRD)))
    average = {k: v.clone() for k, v in student.state_dict().items()}
    assert same(distiller.teacher.model.state_dict(), average)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for _ in range(2):
        student.parse_losses(student(**batch(student)))[0].backward()
        optimizer.step()
        distiller.follow(student)
        for k, v in student.state_dict().items():
            if v.is_floating_point():
                average[k] = (1 - momentum) * average[k] + momentum * v
    for k, v in distiller.teacher.model.state_dict().items():
        if v.is_floating_point():
            torch.testing.assert_close(v, average[k], msg=k)
    assert not any(p.requires_grad for p in distiller.teacher.model.parameters())
    assert not any('average' in k or 'teacher' in k for k in student.state_dict())


def test_average_in_a_run_resumes_exactly(make_runner, tmp_path):
    block = dict(teacher=dict(ema=dict(momentum=0.1)), losses=dict(neck=SRD))
    runner = make_runner('whole', block)
    whole = runner.train()
    teacher = whole.distiller.teacher
    assert not same(teacher.model.state_dict(), whole.state_dict())
    file = load(tmp_path / 'whole' / 'epoch_1.pth')
    assert set(file['distiller']) == {'state_dict', 'record', 'averages'}
    assert list(file['state_dict']) == list(whole.state_dict())
    resumed = make_runner('resumed', block, resume=True, load_from=str(tmp_path / 'whole' / 'epoch_1.pth')).train()
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(teacher.model.state_dict(), resumed.distiller.teacher.model.state_dict())


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
    monkeypatch.setattr(teacher.average, 'to', lambda device: teacher.average._apply(lambda x: x.clone()))
    teacher._device = torch.device('meta')  # as if it were elsewhere: the next use moves it
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    before = teacher.model.neck.lateral_convs[0].conv.weight.clone()
    distiller.follow(student)
    torch.testing.assert_close(teacher.model.neck.lateral_convs[0].conv.weight, before + 0.5)


def test_resume_without_the_average(make_runner, distill, tmp_path):
    make_runner('run', distill).train()
    block = dict(teacher=dict(ema=dict(momentum=0.1)), losses=dict(neck=SRD))
    file = str(tmp_path / 'run' / 'epoch_1.pth')
    # The projectors of this pair have other widths; take them out of the question.
    checkpoint = load(file)
    runner = make_runner('resumed', block, resume=True, load_from=file)
    checkpoint['distiller']['state_dict'] = runner.model.distiller.state_dict()
    torch.save(checkpoint, file)
    with pytest.raises(CheckpointError, match='resume: the checkpoint has no average of the student for'):
        runner.train()


def test_teacher_names_must_not_be_summed_into_the_loss(student, two):
    two['teachers']['loss_big'] = two['teachers'].pop('big')
    with pytest.raises(ConfigError, match=r"distill\.teachers = 'loss_big': must not contain 'loss'"):
        mmsrd.attach(student, two)
