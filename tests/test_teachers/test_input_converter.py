"""The teacher sees what its own preprocessor would have made of the same images."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmpretrain.models import ClsDataPreprocessor

import mmsrd
from mmsrd.config.teacher_config import parse_teacher
from mmsrd.errors import ConfigTypeError
from mmsrd.teachers.build_model import build_model
from mmsrd.teachers.input_converter import InputConversion, InputConverter, PixelFormat, image_preprocessor

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])

FORMATS = {
    'torch': lambda: DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True, pad_size_divisor=32),
    'caffe': lambda: DetDataPreprocessor(**CAFFE, bgr_to_rgb=False, pad_size_divisor=32),
    'raw': lambda: DetDataPreprocessor(pad_size_divisor=32, pad_value=114),
    'gray': lambda: ImgDataPreprocessor(mean=[127.5], std=[60.0], pad_size_divisor=32),
    'classifier': lambda: ClsDataPreprocessor(**IMAGENET, to_rgb=True, pad_size_divisor=32),
}


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, h, w), generator=generator, dtype=torch.uint8) for h, w in ((50, 64), (64, 40))]


def run(preprocessor):
    data = dict(inputs=[i.clone() for i in images()],
                data_samples=[DetDataSample(metainfo=dict(img_shape=i.shape[1:])) for i in images()])
    if isinstance(preprocessor, ClsDataPreprocessor):
        data.pop('data_samples')
    return preprocessor(data, True)['inputs']


@pytest.mark.parametrize('student', FORMATS)
@pytest.mark.parametrize('teacher', FORMATS)
def test_converted_batch_is_the_teachers_own(student, teacher):
    models = FORMATS[student](), FORMATS[teacher]()
    samples = [DetDataSample(metainfo=dict(img_shape=i.shape[1:])) for i in images()]
    converter = InputConverter(InputConversion.between(PixelFormat(models[0]), PixelFormat(models[1])))
    inputs = run(models[0])
    before = inputs.clone()
    # float32 pixels up to 255 through two affine maps: about 1e-5 of the range.
    torch.testing.assert_close(converter(inputs, samples)[0], run(models[1]), rtol=1e-5, atol=2e-4)
    assert torch.equal(inputs, before)  # the student's batch is not written to
    if student == teacher:
        assert converter(inputs, samples)[0] is inputs


@pytest.mark.parametrize('other', [{}, dict(input_size=(72, 96), pad_shape=(96, 72))], ids=['torchvision', 'MMPose'])
@pytest.mark.parametrize('shapes', [[(333, 500), (333, 500)], [(64, 64), (30, 50)], [(64, 64), (500, 64)],
                                    [(96, 50), (30, 72)]])
def test_sizes_of_files_are_not_padding(shapes, other):
    """MMPose cuts persons out of a file, and leaves its size in the data samples; torchvision's crops, too."""
    formats = PixelFormat(DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True)), PixelFormat(FORMATS['caffe']())
    converter = InputConverter(InputConversion.between(*formats))
    inputs = torch.randn(2, 3, 96, 72)
    samples = [DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, **other)) for shape in shapes]
    assert torch.equal(converter(inputs, samples)[0], converter(inputs, None)[0])


def test_a_model_without_preprocessor_takes_pixels_as_they_are():
    model = torch.nn.Module()
    assert image_preprocessor(model) is None
    model.data_preprocessor = BaseDataPreprocessor()
    found = PixelFormat(image_preprocessor(model))
    assert found.has_values_of(PixelFormat(None))
    assert not found.swapped


@pytest.mark.parametrize('own', [dict(mean=[127.5], std=[60.0]), dict(mean=[127.5] * 3, std=[60.0] * 3), CAFFE])
def test_a_teacher_of_rgb_images_sees_a_grey_one_in_three_channels(own):
    student = PixelFormat(ClsDataPreprocessor(mean=[127.5], std=[60.0]))
    teacher = ImgDataPreprocessor(**own)
    grey = torch.arange(0.0, 256, 8).reshape(2, 1, 4, 4)
    conversion = InputConversion.between(student, PixelFormat(teacher), channels=3)
    converted = InputConverter(conversion)((grey - 127.5) / 60.0, None)[0]
    mean, std = (torch.tensor(own[name]).reshape(-1, 1, 1) for name in ('mean', 'std'))
    torch.testing.assert_close(converted, (grey.expand(-1, 3, -1, -1) - mean) / std)


@pytest.mark.parametrize(('student', 'teacher', 'swap'), [('torch', 'classifier', True), ('caffe', 'torch', False)])
def test_the_order_of_channels_may_be_said(student, teacher, swap):
    """For data sets that give RGB already, which a preprocessor does not know."""
    models = FORMATS[student](), FORMATS[teacher]()
    deduced = InputConverter(InputConversion.between(PixelFormat(models[0]), PixelFormat(models[1])))
    said = InputConverter(InputConversion.between(PixelFormat(models[0]), PixelFormat(models[1]), swap=swap))
    assert (deduced.conversion.swap, said.conversion.swap) == (not swap, swap)
    # What the teacher's own preprocessor makes of images whose channels are in the other order.
    flipped = models[1](dict(inputs=[image.flip(0) for image in images()]), True)['inputs']
    samples = [DetDataSample(metainfo=dict(img_shape=i.shape[1:])) for i in images()]
    torch.testing.assert_close(said(run(models[0]), samples)[0], flipped, rtol=1e-5, atol=2e-4)
    for image in images():
        assert torch.equal(said.as_loaded(image), image.flip(0))
        assert torch.equal(deduced.as_loaded(image), image)


def test_a_teacher_without_preprocessor_is_a_warning(monkeypatch):
    """MMPretrain has it beside the model, so whoever gives the model alone gives no preprocessor."""
    said = []
    monkeypatch.setattr('mmsrd.teachers.pretrained_teacher.print_log', lambda text, **options: said.append(text))
    config = Config.fromfile(str(CIFAR / 'resnet8_digits-100.py'))
    for given, warned in (config, False), (config.model, True):
        said.clear()
        mmsrd.attach(build_model(config, 'k'), dict(teacher=dict(config=given, allow_random=True)))
        assert ['config: the config has no `data_preprocessor`' in text for text in said] == [True] * warned


CIFAR = Path(__file__).parents[2] / 'configs/mmpretrain/digits'


@pytest.mark.parametrize(('rgb', 'swap', 'warned'), [
    ((False, True), None, True), ((False, True), False, False), ((False, True), True, False),
    ((True, True), None, False)])
def test_another_order_of_channels_is_a_warning(rgb, swap, warned, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmsrd.teachers.input_converter.print_log', lambda text, **options: said.append(text))
    configs = [Config.fromfile(str(CIFAR / name)) for name in ('resnet8_digits-100.py', 'resnet20_digits.py')]
    for config, to_rgb in zip(configs, rgb):
        config.data_preprocessor.to_rgb = to_rgb
    student = build_model(configs[0], 'k')
    distiller = mmsrd.attach(student, dict(teacher=dict(config=configs[1], allow_random=True, swap_channels=swap)))
    assert [text for text in said if 'distill.teacher: the teacher gets the channels' in text
            and 'distill.teacher.swap_channels=False' in text] == said
    assert bool(said) == warned
    seen = []
    distiller.teacher.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    image = torch.rand(4, 3, 8, 8)
    distiller.teacher.features(image, None)
    expected = image.flip(1) if (rgb[0] != rgb[1] if swap is None else swap) else image
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('value', ['yes', 1])
def test_a_mistake_in_the_key(value):
    with pytest.raises(ConfigTypeError, match='distill.teacher.swap_channels = .*: must be True or False'):
        parse_teacher('distill.teacher', dict(config='c', checkpoint='f', swap_channels=value))
