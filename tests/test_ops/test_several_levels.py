"""Levels that go through the passes together: the same values as one by one, in few launches of few kernels."""
from __future__ import annotations

import itertools

import pytest
import torch

from mmsrd.errors import FeatureMismatchError
from mmsrd.models.losses import SRDLoss
from mmsrd.ops.triton_level_table import COLUMNS, make_layout

pytest.importorskip('triton')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
BACKENDS = ('torch', 'triton')


def features(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(shape, generator=generator)
    return s.to(DEVICE), (0.4 * s + torch.randn(shape, generator=generator)).to(DEVICE)


def mixed_levels():
    """Levels with other sizes, channels, dtypes and strides; those of one kind are not neighbours."""
    shapes = (2, 8, 12, 10), (2, 8, 7, 5), (2, 16, 3, 3), (12, 8), (2, 9, 5), (2, 8, 8, 8)
    levels = [features(shape, seed) for seed, shape in enumerate(shapes)]
    levels[1] = levels[1][0].bfloat16(), levels[1][1]
    levels[2] = levels[2][0], levels[2][1].to(memory_format=torch.channels_last)
    levels[5] = levels[5][0][:, :, 1:, 2:7], levels[5][1][:, :, 1:, 2:7]
    return levels


@pytest.mark.parametrize(('form', 'reduction'), [('elementwise', 'mean'), ('elementwise', 'sum'),
                                                 ('correlation', 'mean')])
@pytest.mark.parametrize('backend', BACKENDS)
def test_the_mean_of_the_levels(backend, form, reduction):
    levels = mixed_levels()
    results = {}
    for name in ('autograd', backend):
        leaves = [s.detach().to(torch.float64 if name == 'autograd' else s.dtype).requires_grad_() for s, _ in levels]
        loss, logs = SRDLoss(backend=name, form=form, reduction=reduction)(
            leaves, [t.to(torch.float64 if name == 'autograd' else t.dtype) for _, t in levels])
        results[name] = loss, logs['alignment'], torch.autograd.grad(3.0 * loss, leaves)
    (loss, alignment, grads), (expected, rho, references) = results[backend], results['autograd']
    assert float(loss) == pytest.approx(float(expected), abs=1e-4)
    torch.testing.assert_close(alignment.double(), rho, rtol=0, atol=1e-4)
    for grad, reference, (s, _) in zip(grads, references, levels):
        assert grad.dtype == s.dtype
        rounding = torch.finfo(s.dtype).eps if s.dtype == torch.bfloat16 else 0
        assert (grad.double() - reference).abs().max() <= (1e-4 + rounding) * reference.abs().max()


def launches(monkeypatch, step):
    """Names of the kernels that ``step`` launches."""
    from mmsrd.ops import triton_kernels
    launched = []

    class Counted:

        def __init__(self, name, kernel):
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid):
            launched.append(self.name)
            return self.kernel[grid]

    for name in [name for name in vars(triton_kernels) if name.endswith('_kernel')]:
        monkeypatch.setattr(triton_kernels, name, Counted(name, getattr(triton_kernels, name)))
    step()
    return launched


def test_launches_of_a_pyramid(monkeypatch):
    """Five levels of a detector: sizes of the small ones are no multiples of a vector, so passes have two launches."""
    sizes = (16, 28), (8, 14), (4, 7), (2, 4), (1, 2)
    levels = [features((2, 16, *size), seed) for seed, size in enumerate(sizes)]
    levels = [(s.requires_grad_(), t.to(memory_format=torch.channels_last)) for s, t in levels]

    def step():
        SRDLoss(backend='triton')(*zip(*levels))[0].backward()

    names = launches(monkeypatch, step)
    assert len(names) <= 12, names
    assert {name: names.count(name) for name in names} == dict(
        moments_kernel=2, combine_kernel=1, statistics_kernel=1, powers_kernel=2, sums_kernel=1, terms_kernel=1,
        gradient_kernel=2)


def pyramid(height, width, batch=8, channels=256):
    """Shape and strides of the levels of a detector, student NCHW and teacher channels-last, as they are trained."""
    levels = []
    for stride in (8, 16, 32, 64, 128):
        h, w = -(-height // stride), -(-width // stride)
        size = h * w
        levels.append(((batch, channels, size), ((channels * size, size, 1), (channels * size, 1, channels),
                                                 (channels * size, size, 1)), (torch.bfloat16, torch.bfloat16), True))
    return tuple(levels)


def test_other_image_sizes_need_no_other_kernels():
    """COCO's multi-scale training: short side 480 to 800 and long side up to 1333, padded to 32."""
    compiled = set()
    for height, width in itertools.product(range(480, 801, 32), range(480, 1345, 32)):
        layout = make_layout(pyramid(height, width))
        assert len(layout.groups) <= 3
        compiled |= {group._replace(first=0, levels=0, programs=0) for group in layout.groups}
    assert len(compiled) <= 6, len(compiled)


@pytest.mark.parametrize('backend', BACKENDS)
def test_what_is_saved_may_move(backend):
    """As with torch.autograd.graph.save_on_cpu: each saved tensor is a copy of its own in the backward pass."""
    levels = mixed_levels()[:3]
    grads = []
    for pack in (lambda x: x, lambda x: x.clone(memory_format=torch.preserve_format)):
        leaves = [s.detach().requires_grad_() for s, _ in levels]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss, _ = SRDLoss(backend=backend)(leaves, [t for _, t in levels])
        grads.append(torch.autograd.grad(loss, leaves))
    assert all(torch.equal(a, b) for a, b in zip(*grads))


def test_layout():
    """Three levels by hand: 64 × 64 channels of a multiple of 8 rows, vectors, and an odd map."""
    def contiguous(n, c, rows):
        return (n, c, rows), ((c * rows, rows, 1),) * 2, (torch.float16, torch.float16), True

    layout = make_layout((contiguous(2, 6, 5), contiguous(70000, 2, 8), contiguous(2, 6, 7)))
    odd, large = sorted(layout.groups, key=lambda group: group.align)
    assert (odd.levels, odd.align, odd.along) == (2, 1, ('rows', 'rows'))
    assert (large.levels, large.align, large.programs) == (1, 8, 70000)
    assert [layout.order.index(level) for level in (0, 2)] == [odd.first, odd.first + 1]
    rows = {level: dict(zip(COLUMNS[3:9] + COLUMNS[12:], row))
            for level, row in zip(layout.order, layout.rows)}
    assert [rows[level]['column'] for level in range(3)] == [0, 6, 8]
    assert (rows[0]['slots'], rows[2]['slots'], rows[2]['first']) == (2, 2, 2)
    assert layout.partials == 2 * 6 + 70000 * 2 + 2 * 6


def test_one_long_row_of_all_images():
    """Channels-last maps and vectors are equally far apart over all images."""
    for shape, strides in (((4, 6, 10), (60, 1, 6)), ((4, 6, 1), (6, 1, 1))):
        group, = make_layout(((shape, (strides, strides), (torch.float32, torch.float32), True),)).groups
        assert group.along == ('channels', 'channels')
        assert group.programs == 1


def test_no_gradient_where_none_is_wanted(monkeypatch):
    levels = [features((2, 16, 4, 4), seed) for seed in range(2)]
    with torch.no_grad():
        assert 'gradient_kernel' not in launches(monkeypatch, lambda: SRDLoss(backend='triton')(*zip(*levels)))


def test_one_level_or_several():
    s, t = features((4, 3), 0)
    loss, logs = SRDLoss()([s, s], [t, t])
    alone, own = SRDLoss()(s, t)
    assert float(loss) == pytest.approx(float(alone), rel=1e-6)
    assert logs['alignment'].tolist() == pytest.approx([float(own['alignment'])] * 2, rel=1e-6)
    with pytest.raises(FeatureMismatchError, match=r'student \(4, 2\) and teacher \(4, 3\)'):
        SRDLoss()([s, s[:, :2]], [t, t])
