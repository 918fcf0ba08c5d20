"""The check of the first distilled step: it finds what is wrong, switches it off, and leaves no other trace."""
from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
import torch
from helpers.processes import launch
from helpers.two_levels import attached, block, loss
from helpers.weights import same

import mmsrd
from mmsrd.config import PLAIN, InferenceConfig
from mmsrd.distillers import read_block
from mmsrd.distillers.device_check import DeviceCheck, StepTimes
from mmsrd.errors import ConfigError
from mmsrd.ops.torch_backend import TorchBackend
from mmsrd.teachers import speedup
from mmsrd.teachers import teacher as teacher_module
from mmsrd.teachers.speedup_check import feature_alignment


class WrongValue(TorchBackend):
    """Its value is a tenth too large."""

    def terms(self, *args):
        terms = super().terms(*args)
        return terms._replace(value=terms.value * 1.1)


class WrongGradient(TorchBackend):
    """Its value is right, its gradient 2 % too large."""

    def gradient(self, *args):
        return [gradient * 1.02 for gradient in super().gradient(*args)]


class NaNAtOneLevel(TorchBackend):
    """The gradient of its last level is not a number."""

    def gradient(self, *args):
        *others, last = super().gradient(*args)
        return [*others, last * float('nan')]


class WrongInHalf(TorchBackend):
    """Right for float32 features only."""

    def __init__(self, students, teachers):
        super().__init__(students, teachers)
        self.factor = 1.5 if students[0].dtype == torch.bfloat16 else 1.0

    def gradient(self, *args):
        return [gradient * self.factor for gradient in super().gradient(*args)]


class Failing(TorchBackend):
    """A kernel that does not launch."""

    def moments(self):
        raise RuntimeError('invalid device function')


@pytest.fixture
def backend(monkeypatch):
    """Put a backend in place of the one that 'auto' chooses."""
    from mmsrd.models.losses import srd_loss
    real = srd_loss.choose_backend

    def put(kind):
        monkeypatch.setattr(srd_loss, 'choose_backend',
                            lambda name, *levels: kind if name == 'auto' else real(name, *levels))
    return put


def images(dtype=torch.float32):
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)


def checked(dtype=torch.float32, **options):
    """A model after its first step with the check on, and the check."""
    model, distiller = attached(dict(block(a=loss('neck.0'), b=loss('neck.1')), device_check='always', **options))
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        model(inputs=images(), mode='loss')
    return distiller, distiller.device_check


@pytest.mark.parametrize(('kind', 'message'), [
    (WrongValue, 'value .* instead of'), (WrongGradient, r'level 0 \(float32\): gradient of norm'),
    (NaNAtOneLevel, r'level 0 \(float32\): gradient of norm nan'), (Failing, 'RuntimeError: invalid device function')])
def test_a_wrong_backend(backend, kind, message):
    assert checked()[1].findings == {}
    backend(kind)
    distiller, check = checked()
    assert set(check.findings) == {'distill.losses.a', 'distill.losses.b'}
    assert all(re.search(message, found) for found in check.findings.values())
    assert all(each.criterion.backend == 'torch' for each in distiller.feature_losses)


def test_a_backend_that_is_wrong_for_half_precision(backend):
    backend(WrongInHalf)
    assert checked()[1].findings == {}
    assert set(checked(torch.bfloat16)[1].findings) == {'distill.losses.a', 'distill.losses.b'}


def test_pytorch_that_is_wrong_is_replaced_by_the_reference(monkeypatch):
    monkeypatch.setattr(TorchBackend, 'gradient', lambda self, *args: [x * 2 for x in torch.zeros(2, 4)])
    distiller, _ = checked()
    assert all(each.criterion.backend == 'autograd' for each in distiller.feature_losses)


def test_the_step_goes_on_with_what_was_checked(backend):
    """Its loss is that of a run that asked for the right backend."""
    expected = attached(block(a=loss('neck.0', backend='torch'), b=loss('neck.1', backend='torch')))[0](
        inputs=images(), mode='loss')
    backend(WrongValue)
    model, _ = attached(dict(block(a=loss('neck.0'), b=loss('neck.1')), device_check='always'))
    found = model(inputs=images(), mode='loss')
    assert all(torch.equal(found[key], expected[key]) for key in expected)


SPEEDUPS = dict(precision='bf16', fold=True, channels_last=True, stream=False)


@pytest.fixture
def fast(distill):
    return dict(distill, teacher=dict(distill['teacher'], inference=SPEEDUPS), device_check='always')


def first_step(student, fast, batch):
    distiller = mmsrd.attach(student, fast)
    student(**batch(student))
    return distiller


def test_what_is_right_stays_on(student, fast, batch):
    distiller = first_step(student, fast, batch)
    assert distiller.device_check.findings == {}
    assert distiller.teacher.inference == InferenceConfig(**SPEEDUPS)
    assert distiller.device_check.done


@pytest.mark.parametrize('name', ['precision', 'channels_last', 'fold', 'compile', 'offload'])
def test_a_wrong_speedup_is_found_and_switched_off(student, fast, batch, monkeypatch, name):
    """Each is made wrong in turn: where it is on, the last layers of the neck have negative weights."""
    monkeypatch.setattr(speedup, 'compile_parts', lambda *args: [])
    asked = fast['teacher']['inference'] = dict(SPEEDUPS, compile=name == 'compile')
    fast['teacher']['offload'] = name == 'offload'
    kind = mmsrd.teachers.PretrainedTeacher
    real = kind._apply_speedups

    def apply(self, *args):
        applied = real(self, *args)
        if (self.offloads if name == 'offload' else getattr(self.inference, name)) not in (False, 'fp32'):
            for module in self.model.neck.fpn_convs.modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.weight.data = -module.weight.data
        return applied

    monkeypatch.setattr(kind, '_apply_speedups', apply)
    alone = copy.deepcopy(student)
    distiller = first_step(student, fast, batch)
    key = f'distill.teacher.{"" if name == "offload" else "inference."}{name}'
    assert list(distiller.device_check.findings) == [key]
    assert 'with the features of the plain teacher in float32' in distiller.device_check.findings[key]
    off = {} if name == 'offload' else {name: 'fp32' if name == 'precision' else False}
    assert distiller.teacher.inference == InferenceConfig(**{**asked, **off})
    assert not distiller.teacher.offloads
    data = batch(student)
    features = distiller.teacher.features(data['inputs'], data['data_samples'])
    plain = mmsrd.attach(alone, dict(fast, teacher=dict(fast['teacher'], inference=PLAIN, offload=False))).teacher
    assert feature_alignment(features, plain.features(data['inputs'], data['data_samples'])) > 0.99


class Racing(speedup.SideStream):
    """A stream whose second result is read before it is there."""

    runs = 0

    def run(self, work, device):
        features = work()
        Racing.runs += 1
        if Racing.runs == 2:
            return {path: [torch.zeros_like(level) for level in levels] for path, levels in features.items()}
        return features


def test_a_race_on_the_stream(student, fast, batch, monkeypatch):
    fast['teacher']['inference'] = dict(SPEEDUPS, stream=True)
    assert first_step(student, fast, batch).device_check.findings == {}
    mmsrd.detach(student)
    monkeypatch.setattr(teacher_module, 'SideStream', Racing)
    distiller = first_step(student, fast, batch)
    assert list(distiller.device_check.findings) == ['distill.teacher.inference.stream']
    assert not distiller.teacher.inference.stream


def test_a_teacher_that_cannot_be_checked(student, fast, batch, monkeypatch):
    """The plain teacher does not fit on the device: training goes on as it was asked for."""
    kind = mmsrd.teachers.PretrainedTeacher
    real = kind._apply_speedups

    def apply(self, *args):
        if self.inference.precision == 'fp32':
            raise RuntimeError('CUDA out of memory')
        return real(self, *args)

    monkeypatch.setattr(kind, '_apply_speedups', apply)
    distiller = first_step(student, fast, batch)
    assert distiller.device_check.findings == {}
    assert distiller.teacher.inference == InferenceConfig(**SPEEDUPS)


def test_an_exception_is_quoted(student, fast, batch, monkeypatch):
    """A speed-up that fails is switched off with its reason; memory that only the check lacks switches nothing off."""
    kind = mmsrd.teachers.PretrainedTeacher
    real = kind._apply_speedups
    for error, findings in ((RuntimeError('no kernel for bfloat16'), 'RuntimeError: no kernel for bfloat16'),
                            (torch.cuda.OutOfMemoryError('out of memory'), '')):
        def apply(self, *args, error=error):
            if self.inference.precision != 'fp32':
                raise error
            return real(self, *args)

        monkeypatch.setattr(kind, '_apply_speedups', apply)
        copied = copy.deepcopy(student)
        distiller = mmsrd.attach(copied, fast)
        data = batch(copied)
        check = distiller.device_check
        check.check_teachers(distiller.teachers, (data['inputs'], data['data_samples']), None)
        assert [findings in text for text in check.findings.values()] == [True] * bool(findings)
        assert ('OutOfMemoryError: out of memory' in check.found[0]) != bool(findings)


@pytest.mark.parametrize('options', [
    dict(), dict(teacher=dict(ema=dict(momentum=0.1))), dict(losses=dict(neck=dict(
        student='neck', teacher='neck', balance=1.0, projector=dict(type='MLPProjector', layers=2))))])
def test_weights_are_those_of_a_run_without_the_check(make_runner, fast, options):
    """The order of images is random, and statistics of projectors move once a step."""
    runs = []
    for name, value in (('with', 'always'), ('without', False)):
        runs.append(make_runner(name, {**fast, **options, 'device_check': value}))
        runs[-1].train()
    assert runs[0].model.distiller.device_check.done
    assert same(*(runner.model.state_dict() for runner in runs))
    assert same(*(runner.model.distiller.state_dict() for runner in runs))


def test_an_accelerator_only_unless_it_is_asked_for(student, distill, batch):
    distiller = first_step(student, distill, batch)
    assert not distiller.device_check.done
    mmsrd.detach(student)
    assert first_step(student, dict(distill, device_check=False), batch).device_check is None
    with pytest.raises(ConfigError, match=r"distill.device_check = 'maybe': must be True, False or 'always'"):
        read_block(dict(distill, device_check='maybe'))


def test_what_is_said(student, fast, batch, monkeypatch):
    said = []
    monkeypatch.setattr('mmsrd.distillers.device_check.print_log', lambda text, **options: said.append(text))
    first_step(student, fast, batch)
    for _ in range(StepTimes().steps + 2):
        student(**batch(student))
    checks, times = said
    assert checks.startswith('Device check on cpu, PyTorch')
    assert 'distill.teacher: alignment 0.99' in checks
    assert 'distill.losses.neck: largest error' in checks
    assert checks.endswith('switched off: nothing')
    assert 'a training step takes' in times
    assert 'teacher' in times
    assert 'losses' in times


def test_processes_decide_together(tmp_path):
    """One of two is wrong; both switch off the same."""
    launch(2, 'device_check_worker.py', tmp_path / 'found')
    first, second = (json.loads((tmp_path / f'found.{rank}').read_text()) for rank in range(2))
    assert first == second
    assert list(first) == ['nothing', 'loss', 'failure', 'teacher']
    assert [found['backends'] for found in first.values()] == [['auto'], ['torch'], ['torch'], ['auto']]
    assert [found['precision'] for found in first.values()] == ['bf16', 'bf16', 'bf16', 'fp32']


def test_a_reference_that_fails_says_nothing_of_the_loss(monkeypatch):
    """It needs the most memory; and a step whose features are not finite shows nothing."""
    monkeypatch.setattr('mmsrd.models.losses.functional.log_sum', failing)
    distiller, check = checked()
    assert check.findings == {}
    assert all(each.criterion.backend == 'auto' for each in distiller.feature_losses)
    assert 'distill.losses.a: not checked (RuntimeError: out of memory)' in check.found


def failing(*args, **kwargs):
    raise RuntimeError('out of memory')


class Random(torch.nn.Module):
    """A projector with weights that cannot be copied, and with random numbers of its own."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layer = torch.nn.utils.weight_norm(torch.nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x):
        return torch.nn.functional.dropout(self.layer(x), 0.5)


def test_projectors_run_once():
    runs = []
    for value in ('always', False):
        model, _ = attached(dict(block(a=loss('neck.0', projector=dict(type=Random))), device_check=value))
        runs.append(model(inputs=images(), mode='loss')['loss_srd_a'])
    assert torch.equal(*runs)


@pytest.mark.parametrize('kind', ['forward', 'norm'])
def test_what_a_model_was_comes_back(kind):
    """Also where a module has a forward pass of its own; fused layers are what they were."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    if kind == 'forward':
        model[1].forward = lambda x: x + 1
    x = torch.randn(1, 3, 4, 4)
    expected = model(x)
    original = speedup.OriginalModel(model)
    model[0].to(torch.bfloat16)
    model[1] = torch.nn.Identity()
    model.forward = lambda x: x
    original.restore()
    assert torch.equal(model(x), expected)


def test_levels_of_one_row_are_no_wrong_speedup():
    """Statistics of one row are zero whatever it is; bfloat16 changes it by a percent at most."""
    plain = dict(neck=[torch.randn(1, 64, 1, 1)])
    assert feature_alignment(dict(neck=[plain['neck'][0].bfloat16()]), plain) > 0.99
    assert feature_alignment(dict(neck=[-plain['neck'][0]]), plain) < 0


@pytest.mark.parametrize('size', [1, 16])
def test_an_error_counts_the_same_with_few_rows_and_with_many(size):
    plain = torch.randn(1, 4096, size, size)
    noise = torch.randn_like(plain)
    for error, expected in (0.06, 0.998), (0.5, 0.89):  # of noise relative to the feature, cosine 1 / sqrt(1 + e^2)
        found = feature_alignment(dict(neck=[plain + error * noise]), dict(neck=[plain]))
        assert found == pytest.approx(expected, abs=0.03)


def test_nothing_is_kept_where_nothing_is_checked(student, distill, batch):
    """The original of a teacher on a CPU is let go of in the first step; a model with a distiller can be pickled."""
    distiller = first_step(student, distill, batch)
    with pytest.raises(AssertionError, match='it is kept for this'):
        distiller.teacher.speed_up_by(InferenceConfig())
    assert isinstance(pickle.loads(pickle.dumps(StepTimes(3))), StepTimes)


def test_fused_layers_stay_fused_under_autocast(student, fast, batch):
    """The comparison that decides on fusing runs in float32, whatever the student runs in."""
    count = 0
    for value in ('always', False):
        copied = copy.deepcopy(student)
        distiller = mmsrd.attach(copied, dict(fast, device_check=value))
        with torch.autocast('cpu', torch.bfloat16):
            copied(**batch(copied))
        norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in distiller.teacher.model.modules())
        count = norms if value == 'always' else count
    assert count == norms


def test_alignment_of_features():
    plain = dict(neck=[torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))])
    assert feature_alignment(plain, plain) == 1
    assert feature_alignment(dict(neck=[3 * plain['neck'][0] + 1]), plain) == pytest.approx(1, abs=1e-3)
    assert feature_alignment(dict(neck=[-plain['neck'][0]]), plain) == pytest.approx(-1, abs=1e-3)
    assert feature_alignment(dict(neck=[plain['neck'][0] * float('inf')]), plain) == -1
    constant = dict(neck=[torch.ones(2, 4, 8, 8)])
    assert feature_alignment(constant, constant) == 1


def test_a_check_is_made_once():
    check = DeviceCheck(everywhere=True)
    assert check.applies(torch.device('cpu'))
    check.finish(torch.device('cpu'))
    assert not check.applies(torch.device('cpu'))
    assert not DeviceCheck().applies(torch.device('cpu'))
