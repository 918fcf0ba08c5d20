"""All backends of SRDLoss against the published formula in float64; Triton in its interpreter where there is no GPU."""
from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from helpers import srd_oracle as oracle

from mmsrd.errors import ConfigError
from mmsrd.models.losses import SRDLoss
from mmsrd.ops import choose_backend
from mmsrd.ops.torch_backend import TorchBackend

pytest.importorskip('triton')
FAST = ('torch', 'triton')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def features(shape, dtype=torch.float32, scale=3.0, shift=10.0, noise=1.0):
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(shape, generator=generator, dtype=torch.float64)
    t = 0.4 * s + noise * torch.randn(shape, generator=generator, dtype=torch.float64)
    return (s * scale + shift).to(DEVICE, dtype), (t - 0.5 * shift).to(DEVICE, dtype)


def run(backend, s, t, upstream=1.0, **arguments):
    leaf = s.detach().requires_grad_()
    loss, logs = SRDLoss(backend=backend, **arguments)(leaf, t)
    grad, = torch.autograd.grad(loss * upstream, leaf)
    assert grad.dtype == s.dtype
    return float(loss), float(logs['alignment']), grad


def compare(s, t, rtol=1e-4, backends=FAST, **arguments):
    """Value against the NumPy oracle, gradient against autograd in float64 of the same (rounded) inputs."""
    form, alpha, eps = (arguments.get(*pair) for pair in (('form', 'elementwise'), ('alpha', 4.0), ('eps', 1e-4)))
    expected = getattr(oracle, form)(s.double().cpu().numpy(), t.double().cpu().numpy(), alpha, eps)
    alignment = oracle.alignment(s.double().cpu().numpy(), t.double().cpu().numpy(), eps)
    reference = run('autograd', s.double(), t.double(), **arguments)[2]
    for backend in backends:
        value, rho, grad = run(backend, s, t, **arguments)
        # A logarithm's absolute error is the relative one of what is inside of it.
        assert value == pytest.approx(expected, abs=rtol), backend
        assert rho == pytest.approx(alignment, abs=rtol), backend
        # Of the gradient's largest element, which is what an optimizer sees; half precision rounds the result.
        rounding = torch.finfo(s.dtype).eps if s.dtype in (torch.float16, torch.bfloat16) else 0
        limit = (rtol + rounding) * reference.abs().max()
        assert (grad.double() - reference).abs().max() <= limit, backend


SHAPES = [(16, 5), (33, 70), (3, 7, 5), (2, 5, 4, 3), (2, 3, 40, 53), (5, 70, 1, 1), (1, 4, 67, 64), (2, 65, 8, 8),
          (1, 5000, 2)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
def test_shapes(shape, form):
    compare(*features(shape), form=form)


@pytest.mark.parametrize('alpha', [1, 1.5, 2, 3, 4, 5, 8])
@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
def test_alpha(alpha, form):
    compare(*features((2, 5, 9, 7)), alpha=alpha, form=form)


@pytest.mark.parametrize('form', ['elementwise', 'correlation'])  # the sum is of the first alone
def test_sum_and_an_upstream_gradient(form):
    s, t = features((2, 5, 9, 7))
    reference = run('autograd', s.double(), t.double(), 3.5, reduction='sum', form=form)
    for backend in FAST:
        value, _, grad = run(backend, s, t, 3.5, reduction='sum', form=form)
        assert value == pytest.approx(reference[0], rel=1e-6)
        torch.testing.assert_close(grad.double(), reference[2], rtol=1e-4, atol=1e-8)


def _layouts(x):
    yield x.to(memory_format=torch.channels_last)
    yield x.transpose(2, 3).contiguous().transpose(2, 3)  # columns first
    yield torch.nn.functional.pad(x, (1, 2, 3, 1))[:, :, 3:-1, 1:-2]  # a crop
    yield torch.stack([x, x], 1).flatten(1, 2)[:, x.size(1):]  # half of the channels of a wider map


def test_strides():
    s, t = features((4, 6, 5, 4))
    for a, b in itertools.product([s, *_layouts(s)], [t, *_layouts(t)]):
        compare(a, b)
    tokens = [x.flatten(2).transpose(1, 2) for x in (s, t)]  # (N, L, C), channels not last in memory
    compare(*tokens)
    compare(tokens[0].contiguous(), tokens[1])
    compare(s[:, :, 0, 0], t[:, :, 1, 1])


def test_the_gradient_has_the_layout_of_the_student():
    s, t = (x.to(memory_format=torch.channels_last) for x in features((3, 6, 5, 4)))
    for backend in FAST:
        assert run(backend, s, t)[2].is_contiguous(memory_format=torch.channels_last), backend


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
def test_half_precision_inputs(dtype, form):
    s, t = features((2, 5, 9, 7), dtype)
    # Upstream 2^12, as the loss scale of fp16, keeps its gradient out of the subnormals.
    reference = run('autograd', s.double(), t.double(), 4096., form=form)
    for backend in FAST:
        value, _, grad = run(backend, s, t, 4096., form=form)
        assert value == pytest.approx(reference[0], abs=1e-4)
        limit = (1e-4 + torch.finfo(dtype).eps) * reference[2].abs().max()
        assert (grad.double() - reference[2]).abs().max() <= limit
    if dtype == torch.bfloat16:
        compare(s, t.float(), form=form)


@pytest.mark.parametrize(('scale', 'shift'), [(1e-3, 0), (1e4, 0), (1, 1e3), (0.1, -1e4), (1e-6, 1e-3)])
def test_badly_scaled_and_shifted_channels(scale, shift):
    """Oracle and backends see the same float32 numbers, so what rounding did before is not counted."""
    s, t = features((2, 5, 9, 7), scale=scale, shift=shift)
    compare(s, t)
    compare(t, s)


@pytest.mark.parametrize('noise', [1e-1, 1e-2, 1e-3])
def test_nearly_identical_features(noise):
    s, _ = features((2, 5, 9, 7), scale=1.0, shift=0.0)
    generator = torch.Generator(DEVICE).manual_seed(1)
    t = s + noise * torch.randn(s.shape, generator=generator, device=DEVICE)
    # d has an error of about 1e-7 (float32, of values near 1), which is 1e-4 of it at 1e-3, four times that in d ** 4.
    compare(s, t, rtol=1e-4 if noise > 1e-3 else 1e-3)


@pytest.mark.parametrize('backend', FAST)
@pytest.mark.parametrize('eps', [0, 1e-4])
@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
def test_constant_channels(backend, eps, form):
    s, t = features((2, 5, 9, 7))
    s[:, 1], t[:, 2], s[:, 3], t[:, 3] = 12345.678, -0.1, 7e-7, 7e8
    value, alignment, grad = run(backend, s, t, eps=eps, form=form)
    # A constant channel is 0 after standardisation; NumPy's mean of equal numbers is off by rounding, so they are 0.
    s[:, [1, 3]] = 0
    t[:, [2, 3]] = 0
    reference = run('autograd', s.double(), t.double(), eps=eps, form=form)
    assert value == pytest.approx(reference[0], abs=1e-4)
    assert alignment == pytest.approx(reference[1], abs=1e-4)
    assert (grad.double() - reference[2]).abs().max() <= 1e-4 * reference[2].abs().max()


@pytest.mark.parametrize('backend', FAST)
def test_identical_features_have_no_gradient(backend):
    s, _ = features((2, 5, 9, 7))
    value, alignment, grad = run(backend, s, s.clone())
    assert value == pytest.approx(-18.42, abs=0.01)  # log 1e-8
    assert alignment == pytest.approx(1, abs=1e-4)
    assert grad.abs().max() == 0


@pytest.mark.parametrize('backend', FAST)
def test_what_is_kept_for_backward(backend):
    """One copy of the features, the teacher's as it is, numbers per channel; nothing where no gradient is wanted."""
    s, t = features((2, 64, 24, 24))
    kept = []

    def keep(x):
        if x.data_ptr() not in (s.data_ptr(), t.data_ptr()):
            kept.append(x.numel() * x.element_size())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        SRDLoss(backend=backend)(s.requires_grad_(), t)
        own = s.numel() * 4 if backend == 'torch' else 0  # the gradient; Triton starts again from s and t
        assert sum(kept) <= own + 64 * 8 * 16
        kept.clear()
        with torch.no_grad():
            SRDLoss(backend=backend)(s, t)
        assert not kept


def test_backward_twice_and_through_a_projector():
    s, t = features((2, 5, 9, 7))
    weight = torch.randn(5, 5, device=DEVICE, requires_grad=True)
    grads = {}
    for backend in ('autograd', *FAST):
        projected = torch.einsum('nchw,dc->ndhw', s, weight)
        loss, _ = SRDLoss(backend=backend)(projected, t)
        once, = torch.autograd.grad(loss, weight, retain_graph=True)
        assert torch.equal(once, torch.autograd.grad(loss, weight)[0])
        grads[backend] = once
    for backend in FAST:
        torch.testing.assert_close(grads[backend], grads['autograd'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('backend', FAST)
def test_no_gradient_is_made_where_none_is_wanted(backend, monkeypatch):
    s, t = features((2, 5, 9, 7))
    passes = choose_backend(backend, [s], [t])
    made = []
    plain = passes.gradient
    monkeypatch.setattr(passes, 'gradient', lambda *args: made.append(1) or plain(*args))
    with torch.no_grad():
        SRDLoss(backend=backend)(s.requires_grad_(), t)
    assert not made
    SRDLoss(backend=backend)(s, t)[0].backward()
    assert made == [1]


def test_where_triton_does_not_work(monkeypatch):
    from mmsrd.ops import srd, triton_backend
    on_cuda = SimpleNamespace(is_cuda=True, device=torch.device(DEVICE), dtype=torch.float32)
    srd.triton_works.cache_clear()
    assert choose_backend('auto', [on_cuda], [on_cuda]).__name__ == 'TritonBackend'
    srd.triton_works.cache_clear()
    monkeypatch.setattr(triton_backend.TritonBackend, 'moments', lambda self: 1 / 0)
    warnings = []
    monkeypatch.setattr(srd, 'print_log', lambda text, **options: warnings.append(text))
    assert choose_backend('auto', [on_cuda], [on_cuda]) is TorchBackend
    assert choose_backend('auto', [on_cuda], [on_cuda]) is TorchBackend
    assert len(warnings) == 1
    assert 'Triton cannot be used' in warnings[0]
    srd.triton_works.cache_clear()


def test_bfloat16_on_a_gpu_that_has_none(monkeypatch):
    """Triton 3.0 to 3.2 do not compile it there."""
    from mmsrd.ops import srd
    monkeypatch.setattr(srd, 'triton_works', lambda device: True)
    for capability, expected in ((7, 5), 'TorchBackend'), ((8, 0), 'TritonBackend'):
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device, capability=capability: capability)
        half = SimpleNamespace(is_cuda=True, device=torch.device(DEVICE), dtype=torch.bfloat16)
        assert choose_backend('auto', [half], [half]).__name__ == expected
        whole = SimpleNamespace(is_cuda=True, device=torch.device(DEVICE), dtype=torch.float16)
        assert choose_backend('auto', [whole], [whole]).__name__ == 'TritonBackend'


def test_asking_for_triton_in_vain(monkeypatch):
    s, t = (x.cpu() for x in features((16, 5)))
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    with pytest.raises(ConfigError, match="backend = 'triton': needs features on CUDA, not on cpu"):
        choose_backend('triton', [s], [t])
    monkeypatch.setattr('mmsrd.models.losses.srd_loss.has_triton', lambda: False)
    with pytest.raises(ConfigError, match="backend = 'triton': needs Triton 3.0 or newer"):
        SRDLoss(backend='triton')


def test_choice():
    s, t = features((16, 5))
    assert choose_backend('autograd', [s], [t]) is None
    assert choose_backend('torch', [s], [t]) is TorchBackend
    assert choose_backend('auto', [s.cpu()], [t.cpu()]) is TorchBackend
    assert choose_backend('auto', [s.double()], [t]) is TorchBackend
    assert choose_backend('triton', [s], [t]).__name__ == 'TritonBackend'
    with pytest.raises(ConfigError, match="backend = 'cuda': must be one of 'auto', 'triton', 'torch', 'autograd'"):
        SRDLoss(backend='cuda')
