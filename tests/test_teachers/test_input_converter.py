"""The teacher sees what its own preprocessor would have made of the same images."""
from __future__ import annotations

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmpretrain.models import ClsDataPreprocessor

from mmsrd.teachers.input_converter import InputConverter, PixelFormat, image_preprocessor

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
    converter = InputConverter(PixelFormat(models[0]), PixelFormat(models[1]))
    inputs = run(models[0])
    before = inputs.clone()
    # float32 pixels up to 255 through two affine maps: about 1e-5 of the range.
    torch.testing.assert_close(converter(inputs, samples), run(models[1]), rtol=1e-5, atol=2e-4)
    assert torch.equal(inputs, before)  # the student's batch is not written to
    if student == teacher:
        assert converter(inputs, samples) is inputs


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
    converted = InputConverter(student, PixelFormat(teacher), channels=3)((grey - 127.5) / 60.0, None)
    mean, std = (torch.tensor(own[name]).reshape(-1, 1, 1) for name in ('mean', 'std'))
    torch.testing.assert_close(converted, (grey.expand(-1, 3, -1, -1) - mean) / std)
