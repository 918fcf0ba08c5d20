"""The mmcv._ext stand-in, through mmcv's public API, against compiled mmcv and independent computations.

``tests/data/mmcv_ops.npz`` has inputs, outputs and gradients of compiled mmcv operators
(onedl-mmcv 2.3.6, CPU), keys ``case/array``. Where the machine's mmcv has
compiled operators itself, the same tests hold those against the file.
"""
from __future__ import annotations

from pathlib import Path

import mmcv.ops as ops
import numpy as np
import pytest
import torch

from mmsrd.compat import has_compiled_ops
from mmsrd.compat import mmcv_ops as own
from mmsrd.errors import MissingOpError

DATA = np.load(Path(__file__).parents[1] / 'data' / 'mmcv_ops.npz')
STAND_IN_ONLY = pytest.mark.skipif(has_compiled_ops(), reason="mmcv's compiled ones have none for the CPU")
LOW_PRECISION = [torch.float16, torch.bfloat16]


def case(name: str) -> dict[str, torch.Tensor]:
    """Arrays of one case as tensors."""
    return {key.split('/')[1]: torch.from_numpy(DATA[key]) for key in DATA.files if key.startswith(f'{name}/')}


def leaf(x: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A leaf with gradient of another precision."""
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize('offset', [0, 1])
def test_nms(offset):
    c = case(f'nms_offset{offset}')
    dets, keep = ops.nms(c['boxes'], c['scores'], float(c['iou_threshold']), offset=offset)
    assert torch.equal(keep, c['keep'])
    assert torch.equal(dets, c['dets'])


def test_batched_nms():
    c = case('batched_nms')
    dets, keep = ops.batched_nms(
        c['boxes'], c['scores'], c['idxs'], dict(type='nms', iou_threshold=float(c['iou_threshold'])))
    assert torch.equal(keep, c['keep'])
    assert torch.equal(dets, c['dets'])


@pytest.mark.parametrize('method', ['linear', 'gaussian'])
def test_soft_nms(method):
    c = case(f'soft_nms_{method}')
    dets, keep = ops.soft_nms(c['boxes'], c['scores'], float(c['iou_threshold']), float(c['sigma']),
                              float(c['min_score']), method)
    assert torch.equal(keep, c['keep'])
    # Products of up to 99 float32 factors, each from another library's exp.
    torch.testing.assert_close(dets, c['dets'], rtol=1e-5, atol=0)


def test_soft_nms_naive_is_nms():
    c = case('nms_offset0')
    _, hard = ops.nms(c['boxes'], c['scores'], 0.5)
    _, soft = ops.soft_nms(c['boxes'], c['scores'], 0.5, min_score=1e-3, method='naive')
    assert set(soft.tolist()) <= set(hard.tolist())  # soft-NMS also drops scores under min_score
    assert all(float(c['scores'][i]) < 1e-3 for i in set(hard.tolist()) - set(soft.tolist()))


@STAND_IN_ONLY
@pytest.mark.parametrize('dtype', LOW_PRECISION)
def test_nms_of_low_precision_boxes(dtype):
    c = case('nms_offset0')
    boxes, scores = c['boxes'].to(dtype), c['scores'].to(dtype)
    _, keep = ops.nms(boxes, scores, 0.5)
    _, expected = ops.nms(boxes.float(), scores.float(), 0.5)
    assert torch.equal(keep, expected)


@pytest.mark.parametrize('aligned', [0, 1])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align(aligned, ratio):
    c = case(f'roi_align_aligned{aligned}_sr{ratio}')
    x = leaf(c['input'])
    out = ops.roi_align(x, c['rois'], tuple(c['output_size'].tolist()), float(c['spatial_scale']), ratio, 'avg',
                        bool(aligned))
    out.backward(c['grad_output'])
    torch.testing.assert_close(out, c['output'], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(x.grad, c['grad_input'], rtol=1e-5, atol=1e-6)  # scattered sums in another order


@STAND_IN_ONLY
@pytest.mark.parametrize('dtype', LOW_PRECISION)
def test_roi_align_low_precision(dtype):
    c = case('roi_align_aligned1_sr2')
    x = leaf(c['input'], dtype)
    out = ops.roi_align(x, c['rois'], (5, 4), 0.25, 2, 'avg', True)
    out.backward(c['grad_output'].to(dtype))
    eps = torch.finfo(dtype).eps
    assert out.dtype == x.grad.dtype == dtype
    torch.testing.assert_close(out.float(), c['output'], rtol=4 * eps, atol=4 * eps)
    torch.testing.assert_close(x.grad.float(), c['grad_input'], rtol=8 * eps, atol=8 * eps)


@STAND_IN_ONLY
@pytest.mark.parametrize('dtype', LOW_PRECISION)
def test_roi_align_of_a_wide_map_in_low_precision(dtype, monkeypatch):
    """In parts, of which the last is smaller: the same, bit for bit, as all channels at once."""
    generator = torch.Generator().manual_seed(0)
    results = []
    rois = torch.tensor([[0, 1, 2, 9, 8], [1, 0, 0, 5, 9.]])
    values = torch.randn(2, 3 * own.CHUNK - 7, 10, 12, generator=generator)
    for part in (own.CHUNK, 4 * own.CHUNK):
        monkeypatch.setattr(own, 'CHUNK', part)
        x = values.to(dtype).requires_grad_()
        out = ops.roi_align(x, rois, (3, 3), 1.0, 2, 'avg', True)
        out.square().sum().backward()
        results.append((out.detach(), x.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_roi_align_max_says_how_to_get_it():
    if has_compiled_ops():
        pytest.skip('mmcv has its own')
    c = case('roi_align_aligned1_sr2')
    with pytest.raises(MissingOpError, match=r"roi_align \(pool_mode='max'\).*mim install"):
        ops.roi_align(c['input'], c['rois'], (5, 4), 0.25, 2, 'max', True)


@pytest.mark.parametrize('name', ['deform_conv2d', 'deform_conv2d_groups'])
def test_deform_conv(name):
    c = case(name)
    x, offset, weight = (leaf(c[k]) for k in ('input', 'offset', 'weight'))
    out = ops.deform_conv2d(x, offset, weight, 1, 1, 1, int(c['groups']), int(c['deform_groups']))
    out.backward(c['grad_output'])
    for got, key in ((out, 'output'), (x.grad, 'grad_input'), (offset.grad, 'grad_offset'),
                     (weight.grad, 'grad_weight')):
        torch.testing.assert_close(got, c[key], rtol=1e-5, atol=1e-5)  # matrix products in another order


@pytest.mark.parametrize('name', ['modulated_deform_conv2d', 'modulated_deform_conv2d_stride2'])
def test_modulated_deform_conv(name):
    c = case(name)
    names = ('input', 'offset', 'mask', 'weight', 'bias')
    leaves = {k: leaf(c[k]) for k in names}
    out = ops.modulated_deform_conv2d(*leaves.values(), int(c['stride']), 1, 1, 1, int(c['deform_groups']))
    out.backward(c['grad_output'])
    torch.testing.assert_close(out, c['output'], rtol=1e-5, atol=1e-5)
    for key in names:
        torch.testing.assert_close(leaves[key].grad, c[f'grad_{key}'], rtol=1e-5, atol=1e-5)


@STAND_IN_ONLY
@pytest.mark.parametrize('dtype', LOW_PRECISION)
def test_modulated_deform_conv_low_precision_and_no_bias(dtype):
    c = case('modulated_deform_conv2d')
    leaves = [leaf(c[k], dtype) for k in ('input', 'offset', 'mask', 'weight')]
    out = ops.modulated_deform_conv2d(*leaves, None, 1, 1, 1, 1, 1)
    wide = [x.detach().float().requires_grad_() for x in leaves]
    expected = ops.modulated_deform_conv2d(*wide, None, 1, 1, 1, 1, 1)
    out.sum().backward()
    expected.sum().backward()
    assert out.dtype == dtype
    for got, want in zip([out, *(x.grad for x in leaves)], [expected, *(x.grad for x in wide)]):
        # Computed from the same values in float32: one rounding apart.
        torch.testing.assert_close(got.float(), want, rtol=torch.finfo(dtype).eps, atol=1e-6)


def sigmoid_focal(x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """-α_t (1 − p_t)^γ log p_t of Lin et al. 2017, γ 2, α 0.25, element by element."""
    one_hot = torch.nn.functional.one_hot(target, x.size(1) + 1)[:, :x.size(1)].to(x.dtype)
    log_p_t = torch.nn.functional.logsigmoid(x * (2 * one_hot - 1))
    alpha_t = 0.25 * one_hot + 0.75 * (1 - one_hot)
    loss = -alpha_t * (1 - log_p_t.exp()) ** 2 * log_p_t
    if weight is not None:
        loss = loss * torch.cat([weight, weight.new_ones(1)])[target].unsqueeze(1)
    return loss


@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(weighted):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 7, generator=generator) * 3
    target = torch.randint(0, 8, (40,), generator=generator)  # 7 is the background
    weight = torch.rand(7, generator=generator) + 0.5 if weighted else None
    exact = x.double().requires_grad_()
    expected = sigmoid_focal(exact, target, None if weight is None else weight.double())
    expected.sum().backward()
    got, grad = torch.zeros_like(x), torch.zeros_like(x)
    empty = x.new_empty(0) if weight is None else weight
    own.sigmoid_focal_loss_forward(x, target, empty, got, gamma=2.0, alpha=0.25)
    own.sigmoid_focal_loss_backward(x, target, empty, grad, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-6)  # 1 − p in float32
    torch.testing.assert_close(grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('weighted', [False, True])
def test_softmax_focal_loss(weighted):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 7, (40,), generator=generator)
    weight = torch.rand(7, generator=generator, dtype=torch.float64) + 0.5 if weighted else x.new_empty(0)
    log_p = x.log_softmax(1).gather(1, target[:, None])[:, 0]
    expected = -0.25 * (1 - log_p.exp()) ** 2 * log_p * (weight[target] if weighted else 1)
    expected.sum().backward()
    softmax = x.detach().softmax(1)
    got, buff, grad = torch.zeros(40).double(), torch.zeros(40).double(), torch.zeros_like(softmax)
    own.softmax_focal_loss_forward(softmax, target, weight, got, gamma=2.0, alpha=0.25)
    own.softmax_focal_loss_backward(softmax, target, weight, buff, grad, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(grad, x.grad, rtol=1e-10, atol=1e-14)


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Value of (H, W, D) at pixel coordinates, zero outside."""
    total = np.zeros(image.shape[2])
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return total


@STAND_IN_ONLY
def test_multi_scale_deformable_attention():
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[4, 5], [2, 3]])
    starts = torch.tensor([0, 20])
    value = torch.randn(2, 26, 2, 3, generator=generator, dtype=torch.float64)
    places = torch.rand(2, 4, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
    attention = torch.rand(2, 4, 2, 2, 2, generator=generator, dtype=torch.float64)
    expected = np.zeros((2, 4, 2, 3))
    for b, q, h, level, p in np.ndindex(2, 4, 2, 2, 2):
        height, width = shapes[level].tolist()
        image = value[b, starts[level]:starts[level] + height * width, h].reshape(height, width, 3).numpy()
        x, y = places[b, q, h, level, p].tolist()
        expected[b, q, h] += float(attention[b, q, h, level, p]) * bilinear(image, x * width - 0.5, y * height - 0.5)
    leaves = [x.requires_grad_() for x in (value, places, attention)]
    out = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(
        leaves[0], shapes, starts, leaves[1], leaves[2], 64)
    torch.testing.assert_close(out.detach(), torch.from_numpy(expected).reshape(2, 4, 6), rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda *a: ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(a[0], shapes, starts, a[1], a[2],
                                                                                      64), leaves)


def test_a_class_of_probability_zero_is_learnt():
    """A softmax in half precision underflows; the gradient tends to alpha · (p − one-hot) there."""
    softmax, target, weight = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0]), torch.empty(0)
    buff, grad = torch.empty(1), torch.empty(1, 3)
    own.softmax_focal_loss_backward(softmax, target, weight, buff, grad, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(grad, torch.tensor([[-0.25, 0.25, 0.0]]))


def test_an_op_that_only_exists_compiled_says_how_to_get_it():
    if has_compiled_ops():
        pytest.skip('mmcv has its own')
    with pytest.raises(MissingOpError, match="'carafe_forward' is not compiled.*mim install"):
        ops.carafe(torch.zeros(1, 4, 4, 4), torch.zeros(1, 25, 8, 8), 5, 1, 2)


def test_compiled_ops_are_left_alone(tmp_path):
    """A fake mmcv with a compiled extension keeps it."""
    import subprocess
    import sys
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / '_ext.py').write_text('compiled = True')  # any importable mmcv._ext will do
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, '-c', 'import mmsrd, mmcv._ext as e; assert e.compiled; '
         'from mmsrd.compat import has_compiled_ops; assert has_compiled_ops()'],
        env={'PYTHONPATH': f'{tmp_path}:{root}', 'PATH': '/usr/bin:/bin'}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_deform_conv_reads_larger_offsets_as_compiled_kernels_do():
    """Sample by sample, the first values in memory; written from the index arithmetic of mmcv's im2col kernels:
    offset[c, h, w] of sample n lies at n·C·H·W + (c·h_out + h)·w_out + w, with H, W of the tensor, h_out, w_out of
    the output."""
    from mmcv.ops import modulated_deform_conv2d
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3)
    offset, mask = torch.randn(2, 18, 8, 8, requires_grad=True), torch.rand(2, 9, 8, 8)
    out = modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1, 1, 1, 1)

    def read(tensor, channels):
        flat = tensor.detach().reshape(2, -1)
        return torch.stack([torch.stack([torch.stack([torch.stack([
            flat[n, (c * 4 + h) * 4 + w] for w in range(4)]) for h in range(4)]) for c in range(channels)])
            for n in range(2)])

    expected = modulated_deform_conv2d(x, read(offset, 18), read(mask, 9), weight, None, 1, 1, 1, 1, 1)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert offset.grad.flatten(1)[:, 18 * 16:].abs().sum() == 0
    assert offset.grad.flatten(1)[:, :18 * 16].abs().sum() > 0
