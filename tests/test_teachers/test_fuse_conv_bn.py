"""Folded batch normalisation gives the same features, and is left alone where it would not."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers.models import build_zoo, with_random_norms
from torch import nn

from mmsrd.config import PretrainedTeacherConfig
from mmsrd.recorders import SIDES, Recording, dummy_samples
from mmsrd.teachers import PretrainedTeacher, TeacherPlan
from mmsrd.teachers.fuse_conv_bn import ConvBNFinder, fuse_conv_bn, relative_difference


def found(model: nn.Module, images: torch.Tensor, tapped: set[nn.Module] = frozenset()) -> list:
    finder = ConvBNFinder()
    with finder.watch(model), torch.no_grad():
        model(images)
    return finder.pairs(set(tapped))


def apply(model: nn.Module, images: torch.Tensor) -> float | None:
    with torch.no_grad():
        return fuse_conv_bn(model, found(model, images), lambda: {'': [model(images)]})


@pytest.mark.parametrize('layer', [
    nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(3, 6, 3, groups=3), nn.ConvTranspose2d(3, 6, 2),
    nn.Conv2d(3, 6, 3, dtype=torch.float64)])
@pytest.mark.parametrize('options', [{}, dict(affine=False), dict(eps=0.1)])
def test_kinds_of_convolution(layer, options):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer)
    dtype = layer.weight.dtype
    model = with_random_norms(nn.Sequential(layer, nn.BatchNorm2d(6, dtype=dtype, **options), nn.ReLU(inplace=True)))
    images = torch.randn(2, 3, 8, 8, dtype=dtype)
    with torch.no_grad():
        expected = model(images)
        assert apply(model, images) is None
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)  # one rounding more of each weight
    assert isinstance(model[1], nn.Identity)
    assert not any(m.training for m in model.modules())


class _Forked(nn.Module):
    """The convolution's output is used beside its normalisation: folding would change the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv(x)
        return x + self.bn(x)


class _Reads(_Forked):
    """Reads an attribute of the normalisation."""

    def forward(self, x):
        return self.bn(self.conv(x)) * self.bn.weight[:, None, None]


@pytest.mark.parametrize('layer', [
    nn.ConvTranspose2d(4, 4, 2, groups=2), nn.utils.weight_norm(nn.Conv2d(4, 4, 1)),
    nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)), nn.utils.parametrizations.orthogonal(nn.Conv2d(4, 4, 1))])
def test_weights_that_are_no_plain_parameters_are_left_alone(layer):
    torch.manual_seed(0)
    model = with_random_norms(nn.Sequential(layer, nn.BatchNorm2d(4)))
    assert found(model, torch.randn(2, 4, 8, 8)) == []


class _Activated(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


def test_what_only_looks_like_a_pair():
    conv, images = nn.Conv2d(3, 3, 1), torch.randn(2, 3, 8, 8)
    assert found(nn.Sequential(conv, nn.ReLU(inplace=True), nn.BatchNorm2d(3)), images) == []
    assert found(nn.Sequential(conv, _Activated(3)), images) == []


def test_a_normalisation_under_two_names():
    model = with_random_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    model._modules['again'] = model[1]
    model.forward = lambda x: model.again(model[0](x))
    assert apply(model, torch.randn(2, 3, 8, 8)) is None
    assert isinstance(model.again, nn.Identity)


@pytest.mark.parametrize('kind', [_Forked, _Reads])
def test_what_cannot_be_folded_is_put_back(kind):
    torch.manual_seed(0)
    model = with_random_norms(kind())
    images = torch.randn(2, 3, 8, 8)
    state = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(images)
    assert apply(model, images) > 0.01
    assert list(model.state_dict()) == list(state)
    with torch.no_grad():
        assert torch.equal(model(images), expected)


def test_shared_and_tapped_layers_are_not_pairs():
    conv, other, norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    images = torch.randn(2, 3, 8, 8)
    assert len(found(nn.Sequential(conv, norm), images)) == 1
    assert found(nn.Sequential(conv, norm), images, {conv}) == found(nn.Sequential(conv, norm), images, {norm}) == []
    assert found(nn.Sequential(conv, norm, other, norm), images) == []  # one normalisation, called twice
    assert found(nn.Sequential(conv, norm, conv, nn.BatchNorm2d(3)), images) == []
    assert found(nn.Sequential(conv, nn.ReLU(), norm), images) == []
    assert found(nn.Sequential(conv, nn.BatchNorm2d(3, track_running_stats=False)), images) == []


def test_not_finite_is_not_equal():
    ones = {'a': [torch.ones(3)]}
    assert relative_difference({'a': [torch.full((3,), float('nan'))]}, ones) == float('inf')
    assert relative_difference(ones, ones) == 0


@pytest.mark.parametrize(('name', 'pairs', 'path'), [
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 53, 'neck'),
    ('mmdet::faster_rcnn/faster-rcnn_x101-32x4d_fpn_1x_coco.py', 104, 'neck'),
    ('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', None, 'neck'),
    ('mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py', 52, 'backbone'),
    ('mmpretrain::densenet/densenet121_4xb256_in1k.py', 59, 'backbone'),
    ('mmpretrain::regnet/regnetx-400mf_8xb128_in1k.py', None, 'backbone'),
    ('mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py', 0, 'backbone'),
])
def test_architectures_of_the_zoos(name, pairs, path):
    """Counts from the papers' tables: ResNet-50 has 53 convolutions, each with its normalisation, and so on."""
    model = with_random_norms(build_zoo(name))
    key = {path: 'k'}
    config = PretrainedTeacherConfig('k', name, None)
    plain, fused = (PretrainedTeacher(config, copy.deepcopy(model)) for _ in range(2))
    for teacher in (plain, fused):
        run = teacher.dry_run(key, SIDES)
        teacher.follow(TeacherPlan(Recording.from_run(run, key), teacher.conversion_from(model, run, key, 3)))
    plain.record()
    fused.prepare()
    own = _norms(model) - _norms(fused.model)
    assert own == pairs if pairs is not None else own > 10
    images = torch.randn(1, 3, *run.image)
    before, after = (teacher.forward(images, dummy_samples(images)) for teacher in (plain, fused))
    assert before[path][0].abs().max() > 0
    # A hundred layers of float32 whose weights are rounded once more.
    assert relative_difference(after, before) < 1e-4


def _norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
