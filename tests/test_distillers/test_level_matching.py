"""Tokens of transformers against tokens, maps and vectors: which positions are compared with which."""
from __future__ import annotations

import pytest
import torch
from helpers.models import build_zoo
from torch import nn

import mmsrd
from mmsrd.config import LossConfig
from mmsrd.distillers import LevelPair, match_levels, match_shapes
from mmsrd.distillers.level_matching import as_map, num_prefix_tokens
from mmsrd.errors import FeatureMismatchError

DEIT = 'mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py'
VIT = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
RESNET = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'


def config(**options):
    return LossConfig('x', {}, 'a', 'b', **options)


@pytest.mark.parametrize(('count', 'extra'), [(196, 0), (197, 1), (198, 2), (50, 1), (64, 0), (261, 5)])
def test_num_prefix_tokens(count, extra):
    """ViT-B/32 has 50, a DeiT 198, DINOv2 with registers 261."""
    assert num_prefix_tokens(count) == extra


def test_map_of_tokens():
    """Token h·W + w becomes position (h, w)."""
    image = torch.randn(2, 5, 3, 6)
    tokens = torch.stack([image[:, :, h, w] for h in range(3) for w in range(6)], 1)
    assert torch.equal(as_map(tokens, like=(12, 24)), image)
    with pytest.raises(FeatureMismatchError, match='18 patch tokens do not make a map with a square'):
        as_map(tokens)


@pytest.mark.parametrize('size', [(512, 384), (384, 512), (480, 640), (640, 480), (800, 1344), (1344, 800), (320, 224)])
@pytest.mark.parametrize('patch', [14, 16])
@pytest.mark.parametrize('cuts_off', [True, False])
def test_images_that_are_no_multiple_of_the_patch(size, patch, cuts_off):
    """What remains is cut off, or padded."""
    height, width = (side // patch if cuts_off else -(-side // patch) for side in size)
    assert as_map(torch.zeros(1, height * width, 2), like=size).shape == (1, 2, height, width)


def test_tokens_of_no_such_image():
    with pytest.raises(FeatureMismatchError, match='197 patch tokens do not make a map with the proportions of 12x24'):
        as_map(torch.zeros(1, 197, 2), like=(12, 24))


def test_tokens_and_a_map_meet_at_the_same_positions():
    image = torch.randn(2, 5, 4, 4)
    tokens = torch.cat([torch.randn(2, 2, 5), image.flatten(2).transpose(1, 2)], 1)
    pair, = match_levels(config(resize='none', tokens='patch'), [tuple(tokens.shape)], [tuple(image.shape)])
    assert pair.prefix_tokens == (2, 0)
    for s, t in (match_shapes(tokens, image, pair, config(resize='none')),
                 match_shapes(image, tokens, LevelPair(0, 0, (), (), (0, 2)), config(resize='none'))):
        assert torch.equal(s, t)
    torch.testing.assert_close(match_shapes(tokens, image, pair, config(pool=True))[0], image.mean((2, 3)))
    # As many tokens as channels do not pass for each other.
    square = torch.randn(2, 16, 4, 4)
    s, t = match_shapes(tokens[:, 2:], square, LevelPair(0, 0, (), ()), config(resize='none'))
    assert s.shape == (2, 5, 4, 4)
    assert t.shape == square.shape


def test_other_numbers_of_patches_are_resized():
    coarse, fine = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 8, 8)
    tokens = [torch.cat([torch.randn(2, n, 5), x.flatten(2).transpose(1, 2)], 1) for n, x in ((1, coarse), (2, fine))]
    shapes = [[tuple(x.shape)] for x in tokens]
    pair, = match_levels(config(resize='to_student', tokens='patch'), *shapes)
    s, t = match_shapes(*tokens, pair, config(resize='to_student'))
    assert torch.equal(s, coarse)
    torch.testing.assert_close(t, fine.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5)))


def test_tokens_of_wide_images_keep_their_proportions():
    """144 patches of a 128×288 image are 8×18, though 144 is a square number."""
    image = torch.randn(1, 5, 8, 18)
    coarse = torch.randn(1, 5, 4, 9)
    s, t = match_shapes(*(x.flatten(2).transpose(1, 2) for x in (image, coarse)), LevelPair(0, 0, (), ()),
                        config(resize='to_teacher'), (128, 288))
    assert torch.equal(t, coarse)
    torch.testing.assert_close(s, image.unflatten(2, (4, 2)).unflatten(4, (9, 2)).mean((3, 5)))


def test_tokens_have_the_proportions_of_the_image():
    """A map of stride 128 is 3×3, of 320×336 pixels."""
    tokens = torch.zeros(1, 20 * 21, 5)
    s, _ = match_shapes(tokens, torch.zeros(1, 5, 3, 3), LevelPair(0, 0, (), ()), config(resize='none'), (320, 336))
    assert s.shape == (1, 5, 20, 21)


@pytest.mark.parametrize(('shapes', 'tokens', 'message'), [
    ([(1, 198, 192), (1, 512, 7, 7)], 'all', "are tokens and a map; tokens='patch' makes a map"),
    ([(1, 198, 192), (1, 197, 384)], 'all', "different numbers of tokens; tokens='patch' leaves class and"),
    ([(1, 198, 192), (1, 512)], 'patch', 'different layouts; pool=True'),
    ([(1, 198, 192), (1, 512, 7, 7)], 'patch', "differ in size and resize='none'"),
    ([(1, 8, 4, 4), (1, 16, 8)], 'all', r'\(1, 8, 4, 4\) and teacher level 0 \(1, 16, 8\) are tokens and'),
    ([(1, 9, 8, 8, 8), (1, 16, 8)], 'all', r'features must be \(N, C\)'),
    ([(1, 256, 7, 7), (1, 7, 7, 768)], 'all', r'teacher level 0 \(1, 7, 7, 768\) comes from a square'),
    ([(6, 1, 300, 256), (6, 1, 300, 256)], 'all', r'student level 0 \(6, 1, 300, 256\) comes from a square image'),
])
def test_what_cannot_be_compared(shapes, tokens, message):
    with pytest.raises(FeatureMismatchError, match=message):
        match_levels(config(resize='none', tokens=tokens), [shapes[0]], [shapes[1]])


def test_prefix_tokens_of_a_teacher_of_wide_images():
    """392 patches and a class token: the patches of an image that is no square cannot be told from the others."""
    with pytest.raises(FeatureMismatchError, match='make `size` of the teacher square'):
        match_levels(config(tokens='patch', pool=True), [(1, 8, 7, 7)], [(1, 393, 16)],
                     ((224, 224), (224, 448)), (224, 448))


def test_tokens_of_a_part_of_the_image():
    """MAE's encoder gets a quarter of the patches, in random order."""
    pair, = match_levels(config(tokens='patch'), [(1, 197, 8)], [(1, 197, 16)], ((224, 224), (224, 224)))
    sizes = (197, (224, 224)), (50, (112, 112)), (1 + 13 * 20, (208, 320)), (197, (448, 448)), (1 + 15 * 14, (235, 230))
    for count, size in sizes:
        match_shapes(torch.zeros(2, count, 8), torch.zeros(2, count, 16), pair, config(tokens='patch'), size)
    with pytest.raises(FeatureMismatchError, match='49 patch tokens for images of 224x224 in this step, where the dry'):
        match_shapes(torch.zeros(2, 50, 8), torch.zeros(2, 197, 16), pair, config(tokens='patch'), (224, 224))
    with pytest.raises(FeatureMismatchError, match='4 patch tokens for images of 64x64'):
        match_shapes(torch.zeros(2, 5, 8), torch.zeros(2, 17, 16), pair, config(tokens='patch'), (64, 64))
    match_shapes(torch.zeros(2, 50, 8), torch.zeros(2, 197, 16), pair, config(tokens='patch', pool=True), (224, 224))
    near, = match_levels(config(tokens='patch'), [(1, 81, 8)], [(1, 81, 16)], ((128, 128), (128, 128)))
    many = torch.zeros(1, 144 * 144, 8), torch.zeros(1, 144 * 144, 16)
    match_shapes(*many, near, config(tokens='patch'), (2016, 2016))  # patches of 14, of which 128 pixels have 9


@pytest.mark.parametrize(('student', 'teacher', 'pairs'), [
    ((8, 16, 32), (4, 8, 16, 32), [(0, 1), (1, 2), (2, 3)]),
    ((8, 16, 32), (32, 8), [(0, 1), (2, 0)]),
    ((8, 8, 16), (8, 16, 16), [(1, 0), (2, 2)]),  # of several of one stride the last
    ((64, 32), (4, 8), [(1, 1)]),  # none in common: the nearest
])
def test_levels_by_stride(student, teacher, pairs):
    shapes = [[(1, 3, 128 // stride, 128 // stride) for stride in strides] for strides in (student, teacher)]
    found = match_levels(config(levels='stride'), *shapes, ((128, 128),) * 2)
    assert [(pair.student, pair.teacher) for pair in found] == pairs


def test_levels_by_stride_with_a_teacher_of_larger_images():
    """Sizes of maps do not count, strides do."""
    found = match_levels(config(levels='stride'), [(1, 3, 8, 8)], [(1, 3, 16, 16), (1, 3, 8, 8)],
                         ((64, 64), (128, 128)))
    assert [(pair.student, pair.teacher) for pair in found] == [(0, 0)]
    with pytest.raises(FeatureMismatchError, match="x.levels = 'stride': the student has the levels .* has no maps"):
        match_levels(config(levels='stride'), [(1, 3, 8, 8)], [(1, 3)], ((64, 64), (64, 64)))


@pytest.mark.parametrize(('student', 'teacher', 'taps', 'options', 'projector'), [
    (DEIT, VIT, ('backbone.ln1', 'backbone.ln1'), dict(tokens='patch'), (192, 192)),
    (DEIT, RESNET, ('backbone.ln1', 'backbone.layer4'), dict(tokens='patch'), (512, 192)),
    (RESNET, DEIT, ('backbone.layer4', 'backbone.layers.5'), dict(tokens='patch', resize='to_teacher'), (192, 512)),
    (DEIT, RESNET, ('backbone.ln1', 'backbone.layer4'), dict(tokens='patch', pool=True), (512, 192)),
    (VIT, DEIT, ('backbone.ln1', 'backbone'), dict(tokens='all', pool=True, levels=[(0, 1)]), (192, 192)),
])
def test_steps_between_families(student, teacher, taps, options, projector):
    model = build_zoo(student)
    distiller = mmsrd.attach(model, dict(
        teacher=dict(config=teacher, allow_random=True),
        losses=dict(x=dict(student=taps[0], teacher=taps[1], **options))))
    assert distiller.losses['x'].projectors[0].weight.shape == projector
    samples = _samples(4)  # pooled, each is a row, and fewer have no statistics
    losses = model(inputs=torch.randn(4, 3, 224, 224), data_samples=samples, mode='loss')
    losses['loss_srd_x'].backward()
    first = next(m for m in model.backbone.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.grad.abs().sum() > 0


def _samples(count):
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(i) for i in range(count)]
