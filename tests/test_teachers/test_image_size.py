"""A teacher that sees the student's images at another size."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.models import build_zoo
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

import mmsrd
from mmsrd.config import LossConfig
from mmsrd.distillers import LevelPair, match_shapes, read_block
from mmsrd.errors import ConfigError, ConfigTypeError, TeacherError
from mmsrd.teachers.image_size import ImageSize
from mmsrd.utils.zoo import load_config

RETINA = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
NECK = dict(neck=dict(student='neck', teacher='neck', levels='stride'))


def samples(count, shape):
    meta = dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0), ori_shape=shape)
    return [DetDataSample(metainfo=dict(meta)) for _ in range(count)]


@pytest.mark.parametrize(('size', 'shape', 'expected'), [
    (ImageSize(), (97, 33), (97, 33)), (ImageSize(0.5), (97, 32), (49, 16)), (ImageSize(2), (97, 33), (194, 66)),
    (ImageSize(0.5, divisor=32), (416, 640), (224, 320)), (ImageSize(0.5, divisor=32), (352, 32), (192, 32)),
    (ImageSize(size=(224, 160)), (1, 9), (224, 160)), (ImageSize(multiple=32), (300, 167), (288, 160)),
    (ImageSize(0.5, multiple=32), (107, 300), (64, 160)), (ImageSize(divisor=32), (97, 33), (97, 33))])
def test_sizes(size, shape, expected):
    assert size(*shape) == expected
    assert size.resize(torch.rand(2, 3, *shape)).shape == (2, 3, *expected)


def rtmdet():
    config = load_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 'test')
    config.model.backbone.init_cfg = None
    return config


@pytest.mark.parametrize(('scale', 'expected'), [(1, (96, 64)), (0.5, (64, 32)), (3, (320, 224))])
def test_a_teacher_that_takes_multiples_of_32(scale, expected):
    """Its neck doubles a map and joins it with the one before; its data preprocessor says nothing of it."""
    distiller = mmsrd.attach(build_zoo(RETINA), dict(
        teacher=dict(config=rtmdet(), allow_random=True, scale=scale), losses=NECK))
    assert 'rounded to multiples of 32' in distiller.describe()
    seen = []
    distiller.teacher.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-2:]))
    levels = distiller.teacher.features(torch.randn(1, 3, 107, 76), samples(1, (107, 76)))['neck']
    assert seen[-1] == expected
    assert [level.shape[-2:] for level in levels] == [tuple(side // stride for side in expected)
                                                      for stride in (8, 16, 32)]


def test_predictions_of_such_a_teacher():
    """Of images that its own data preprocessor does not pad."""
    distiller = mmsrd.attach(build_zoo(RETINA), dict(teacher=dict(config=rtmdet(), allow_random=True), losses=NECK))
    sample, = samples(1, (107, 76))
    predicted, = distiller.teacher.predict(dict(inputs=[torch.zeros(3, 107, 76, dtype=torch.uint8)],
                                                data_samples=[sample]))
    assert predicted.pred_instances.bboxes.size(1) == 4


@MODELS.register_module(force=True)
class Joining(BaseModel):
    """Halves an image several times; a neck doubles the map of one stride and adds it to the one before."""

    def __init__(self, stride, rounds, halvings=6, divisor=1):
        super().__init__(dict(type='ImgDataPreprocessor', pad_size_divisor=divisor))
        padding = 1 if rounds == 'up' else 0
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), *(
            nn.Conv2d(4, 4, 3 if padding else 2, 2, padding) for _ in range(halvings)))
        self.neck = nn.Identity()
        self.stride = stride

    def extract_feat(self, inputs):
        maps = [self.backbone[0](inputs)]
        for layer in self.backbone[1:]:
            maps.append(layer(maps[-1]))
        if self.stride is not None:
            deep = int(np.log2(self.stride))
            maps[deep - 1] = maps[deep - 1] + interpolate(maps[deep], scale_factor=2)
        return self.neck(tuple(maps[2:]))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        maps = self.extract_feat(inputs)
        return dict(loss=sum(x.mean() for x in maps)) if mode == 'loss' else maps


@pytest.mark.parametrize('rounds', ['up', 'down'])
@pytest.mark.parametrize(('stride', 'multiple'), [(None, 1), (8, 32), (16, 32), (32, 32), (64, 64)])
def test_the_multiple_is_found(stride, multiple, rounds):
    config = dict(model=dict(type='Joining', stride=stride, rounds=rounds))
    student = Joining(None, 'up')
    teacher = mmsrd.attach(student, dict(teacher=dict(config=config, allow_random=True), losses=NECK)).teacher
    assert teacher.plan.conversion.image_size.multiple == multiple
    for side in range(64, 130):
        teacher.features(torch.randn(1, 3, side, side + 3), None)


def test_a_student_that_pads_less_than_its_teacher():
    """Both pad, and the teacher's neck wants more than the student's images have."""
    config = dict(model=dict(type='Joining', stride=64, rounds='up', divisor=64))
    for divisor, multiple in ((32, 64), (64, 1), (128, 1)):
        teacher = mmsrd.attach(Joining(None, 'up', divisor=divisor), dict(
            teacher=dict(config=config, allow_random=True), losses=NECK)).teacher
        assert teacher.plan.conversion.image_size.multiple == multiple
        teacher.features(torch.randn(1, 3, 3 * divisor, divisor), None)


def test_a_neck_that_is_not_needed():
    """A loss on the backbone ends the forward pass before it."""
    config, losses = dict(model=dict(type='Joining', stride=16, rounds='up')), dict(
        last=dict(student='backbone.6', teacher='backbone.6'))
    teacher = mmsrd.attach(Joining(None, 'up'), dict(
        teacher=dict(config=config, allow_random=True), losses=losses)).teacher
    assert not teacher.plan.conversion.image_size.differs


def test_resizing_is_antialiased():
    """Pillow's bilinear filter is antialiased, too; it rounds its weights and results to whole steps of 255."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((24, 18), Image.Resampling.BILINEAR))
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = ImageSize(size=(18, 24)).resize(images)
    assert resized.dtype == torch.uint8
    assert (resized[0].permute(1, 2, 0).int() - torch.from_numpy(expected.copy()).int()).abs().max() <= 1
    exact = ImageSize(size=(18, 24)).resize(images.double())
    assert (exact[0].permute(1, 2, 0) - torch.from_numpy(expected.copy()).double()).abs().max() <= 1


def test_samples_follow():
    sample, = samples(1, (300, 400))
    sample.set_metainfo(dict(batch_input_shape=(320, 416), scale_factor=(0.5, 0.25), img_id=7, input_size=(416, 320)))
    described = ImageSize(0.5, divisor=32).describe(sample, 320, 416)  # 160x208 becomes 160x224
    assert described.img_shape == (150, round(400 * 224 / 416))
    assert described.batch_input_shape == (160, 224)
    assert described.scale_factor == (0.5 * 224 / 416, 0.125)
    assert described.input_size == (224, 160)  # MMPose's, width first
    assert described.img_id == 7
    assert sample.img_shape == (300, 400)
    assert ImageSize().describe(sample, 320, 416) is sample


@pytest.mark.parametrize(('scale', 'pairs'), [
    (0.5, [(1, 0), (2, 1), (3, 2), (4, 3)]), (2, [(0, 1), (1, 2), (2, 3), (3, 4)]), (0.9, [(i, i) for i in range(5)])])
def test_levels_of_one_stride_on_the_students_image(scale, pairs):
    student = build_zoo(RETINA)
    distiller = mmsrd.attach(student, dict(teacher=dict(config=RETINA, allow_random=True, scale=scale), losses=NECK))
    planned = distiller.losses['neck'].pairs
    assert [(pair.student, pair.teacher) for pair in planned] == pairs
    assert all(pair.strides[1] == pytest.approx(pair.strides[0], rel=0.15) for pair in planned)
    assert f"images of the teacher: {scale:g} times the student's size" in distiller.describe()


def test_features_are_those_of_the_resized_images():
    student = build_zoo(RETINA)
    distiller = mmsrd.attach(student, dict(teacher=dict(config=RETINA, allow_random=True, scale=0.5), losses=NECK))
    images = torch.randn(2, 3, 256, 192)
    images[:, :, 200:] = 0  # padding
    shapes = samples(2, (200, 192))
    got = distiller.teacher.features(images, shapes)['neck']
    small = interpolate(images, (128, 96), mode='bilinear', antialias=True)
    small[:, :, 100:] = 0
    model = distiller.teacher.model
    with torch.no_grad():
        expected = model.neck(model.backbone(small))
    for one, other in zip(got, expected[:4]):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_masks_of_padding_go_with_the_size():
    """DETR makes its mask of padding from the samples: what it sees must not depend on what stands in the padding."""
    config = 'mmdet::detr/detr_r18_8xb2-500e_coco.py'
    losses = dict(encoder=dict(student='encoder', teacher='encoder', tokens='patch'))
    student = build_zoo(config)
    distiller = mmsrd.attach(student, dict(teacher=dict(config=config, allow_random=True, scale=2), losses=losses))
    images = torch.randn(1, 3, 64, 96)
    masks = []
    distiller.teacher.model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs['key_padding_mask']), with_kwargs=True)
    shapes = samples(1, (64, 64))
    shapes[0].set_metainfo(dict(batch_input_shape=(64, 96)))
    distiller.teacher.features(images, shapes)
    assert masks[0].shape == (1, 4 * 6)
    assert masks[0].reshape(4, 6).sum(0).tolist() == [0, 0, 0, 0, 4, 4]


def test_predictions_are_in_the_students_coordinates():
    student = build_zoo(RETINA)
    distiller = mmsrd.attach(student, dict(teacher=dict(config=RETINA, allow_random=True, scale=0.5), losses=NECK))
    teacher = distiller.teacher
    teacher.model.bbox_head.retina_cls.bias.data.zero_()  # boxes above the score threshold
    image = torch.randint(0, 256, (3, 128, 192), dtype=torch.uint8)
    predicted, = teacher.predict(dict(inputs=[image], data_samples=samples(1, (128, 192))))
    small, = samples(1, (64, 96))
    small.set_metainfo(dict(scale_factor=(0.5, 0.5), ori_shape=(128, 192)))
    with torch.no_grad():
        expected, = teacher.model.test_step(dict(
            inputs=[ImageSize(0.5).resize(image[None])[0]], data_samples=[small]))
    assert len(expected.pred_instances) > 0
    torch.testing.assert_close(predicted.pred_instances.bboxes, expected.pred_instances.bboxes)
    assert predicted.pred_instances.bboxes[:, 2].max() > 96  # beyond the small image


def test_a_classifier_of_one_size():
    """A transformer with a fixed grid teaches a student of any image size."""
    student = build_zoo(RETINA)
    losses = dict(c5=dict(student='backbone', teacher='backbone', levels=[(-1, -1)], tokens='patch'))
    teacher = dict(config='timm::vit_tiny_patch16_224', allow_random=True, size=(224, 224))
    distiller = mmsrd.attach(student, dict(teacher=teacher, losses=losses))
    data = dict(inputs=torch.randn(1, 3, 128, 192), data_samples=None)
    assert distiller.teacher.features(**data)['backbone'][-1].shape[1] in (196, 197, 192)
    with pytest.raises(TeacherError, match=r'distill.teacher.size = \(192, 192\): .* does not run on such images'):
        mmsrd.attach(build_zoo(RETINA), dict(teacher=dict(
            teacher, config='timm::mixer_s32_224', size=(192, 192)), losses=losses))


def test_a_teacher_that_refuses_the_size_of_a_batch():
    """As MLP-Mixer does, whose dry run had another size."""
    distiller = mmsrd.attach(build_zoo(RETINA), dict(teacher=dict(config=RETINA, allow_random=True), losses=NECK))

    def refuse(images):
        raise AssertionError('no dynamic input shape')

    distiller.teacher.model.backbone.forward = refuse
    with pytest.raises(TeacherError, match=r'does not run with images of \(96, 160\), and did with .*\(no dynamic '
                                           r'input shape\); if it takes one size only, name it by `size`'):
        distiller.teacher.features(torch.randn(1, 3, 96, 160), None)


@pytest.mark.parametrize(('options', 'kind', 'message'), [
    (dict(scale=0), ConfigError, 'distill.teacher.scale = 0: must be a number above 0'),
    (dict(scale='half'), ConfigTypeError, "distill.teacher.scale = 'half'"),
    (dict(size=224), ConfigTypeError, 'distill.teacher.size = 224: must be height and width'),
    (dict(size=(1, 2, 3)), ConfigError, r'distill.teacher.size = \(1, 2, 3\): must be height and width'),
    (dict(size=(0, 2)), ConfigError, 'distill.teacher.size = 0'),
    (dict(size=(64, 64), scale=0.5), ConfigError, r'distill.teacher: has scale=0.5 and size=\(64, 64\)')])
def test_mistakes(options, kind, message):
    with pytest.raises(kind, match=message):
        read_block(dict(teacher=dict(config=RETINA, allow_random=True, **options)))


def test_images_that_become_too_small():
    student, last = build_zoo(RETINA), dict(neck=dict(student='neck', teacher='neck', levels=[(4, 4)]))
    distiller = mmsrd.attach(student, dict(teacher=dict(config=RETINA, allow_random=True, scale=0.25), losses=last))
    with pytest.raises(TeacherError, match=r"distill.teacher.scale = 0.25: the student's images of 64x64 become 32x32, "
                                           r'less than one position of the teacher.s level of stride 128'):
        distiller.teacher.features(torch.randn(1, 3, 64, 64), None)


def test_tokens_meet_a_teacher_of_another_size():
    """Tokens of the student's image become a map of its proportions, those of the teacher one of its own."""
    config = LossConfig('a', {}, 'x', 'y', tokens='patch')
    pair = LevelPair(0, 0, (1, 64, 8), (1, 16, 8), teacher_size=(64, 64))
    tokens = torch.arange(8 * 32.0).reshape(1, 256, 1).expand(1, 256, 8)  # of an image of 128x512
    student, teacher = match_shapes(tokens, torch.zeros(1, 16, 8), pair, config, (128, 512))
    assert student.shape == (1, 8, 8, 32)
    assert teacher.shape == (1, 8, 8, 32)
    student, teacher = match_shapes(tokens, torch.zeros(1, 8, 4, 4), pair, config, (128, 512))
    assert student.shape == teacher.shape == (1, 8, 8, 32)
    student, _ = match_shapes(tokens, torch.zeros(1, 256, 8), pair, config, (128, 512))
    assert student.shape == (1, 8, 8, 32)


CLASSIFIER = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'


@pytest.mark.parametrize('scale', [0.5, 2])
def test_the_preset_of_classifiers(scale):
    """Features are pooled, so the size of the teacher's images matters to nothing else."""
    student = build_zoo(CLASSIFIER)
    teacher = dict(config=CLASSIFIER, allow_random=True, scale=scale)
    distiller = mmsrd.attach(student, dict(teacher=teacher))
    images = torch.randn(4, 3, 32, 32)
    sizes = []
    distiller.teacher.model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[-1]))
    losses = student(images, [DataSample().set_gt_label(i) for i in range(4)], mode='loss')
    assert sizes[-1] == 32 * scale
    assert {'loss_srd_feature', 'loss_srd_logits'} < set(losses)
