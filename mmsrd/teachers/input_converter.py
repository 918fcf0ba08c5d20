"""Give the teacher the pixels it was trained on, from the batch that the student sees."""
from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import TeacherError
from .image_size import ImageSize


class PixelFormat:
    """Format in which a data preprocessor presents pixels to its model.

    Attributes:
        normalises: Whether it normalises at all; pixels are taken to be 0 to 255 where it does not.
        mean: Subtracted per channel, (1 or 3, 1, 1).
        std: Divided by per channel, same shape.
        swapped: Whether the channels are in the other order than in the dataset.
        pad_value: Value of padding, after normalisation.
        divisor: Number that divides the sides of padded images.
    """

    def __init__(self, preprocessor: nn.Module | None) -> None:
        self.normalises = bool(getattr(preprocessor, '_enable_normalize', False))
        self.mean = _stat(preprocessor, 'mean') if self.normalises else torch.zeros(1, 1, 1)
        self.std = _stat(preprocessor, 'std') if self.normalises else torch.ones(1, 1, 1)
        # mmpretrain's ClsDataPreprocessor calls it to_rgb, MMEngine's keeps a private flag, mmseg's a public one.
        self.swapped = any(getattr(preprocessor, flag, False)
                           for flag in ('to_rgb', '_channel_conversion', 'channel_conversion'))
        self.pad_value = float(getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)) or 0)
        self.divisor = int(getattr(preprocessor, 'pad_size_divisor', 1) or 1)

    def has_values_of(self, other: PixelFormat) -> bool:
        """Return whether pixels have the same values, whatever the order of the channels."""
        return _equal(self.mean, other.mean) and _equal(self.std, other.std) and self.pad_value == other.pad_value


def _stat(preprocessor: Any, name: str) -> Tensor:
    value: Tensor = getattr(preprocessor, name)
    return value.detach().cpu().float().reshape(-1, 1, 1)


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool((a == b).all())  # one value stands for three equal ones


def image_preprocessor(model: nn.Module) -> nn.Module | None:
    """The preprocessor of ``model`` that normalises images, or None where it has none.

    Raises:
        TeacherError: It has statistics, but does not say how it applies them.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if isinstance(preprocessor, nn.Module) and not hasattr(preprocessor, '_enable_normalize'):
        inner = getattr(preprocessor, 'data_preprocessor', None)  # multi-branch preprocessors wrap one
        preprocessor = inner if isinstance(inner, nn.Module) else preprocessor
    if isinstance(preprocessor, nn.Module) and hasattr(preprocessor, 'mean') \
            and not hasattr(preprocessor, '_enable_normalize') and not hasattr(preprocessor, 'to_rgb'):
        raise TeacherError(f'{type(preprocessor).__name__} of {type(model).__name__} has a `mean`, but does not say '
                           "how it normalises images; derive it from MMEngine's ImgDataPreprocessor")
    return preprocessor


@dataclass(frozen=True)
class InputConversion:
    """Conversion by which the student's normalised batch becomes what the teacher's preprocessor would have made.

    It has plain values.

    Attributes:
        channels: Channels that the teacher takes: a student's single one is repeated.
        swap: Whether it takes them in the other order.
        scale: Factor of each channel, in the teacher's order; one value stands for equal ones.
        shift: Added to each channel afterwards.
        pad_value: Value of the teacher's padding.
        identical: Whether there is nothing to do but to repeat a single channel.
        loaded_otherwise: Whether the images of the student's data set have another order than those of the teacher's.
        warns: Whether the student's preprocessor does not normalise, so that its inputs are taken for pixels.
        image_size: Size of the teacher's images.
        divisor: Number that divides the sides of the student's images.
    """

    channels: int = 3
    swap: bool = False
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    pad_value: float = 0.0
    identical: bool = True
    loaded_otherwise: bool = False
    warns: bool = False
    image_size: ImageSize = field(default_factory=ImageSize)
    divisor: int = 1

    @classmethod
    def between(cls, student: PixelFormat, teacher: PixelFormat, channels: int = 3, swap: bool | None = None
                ) -> InputConversion:
        """Return the conversion from one format to another.

        Args:
            student: The student's pixel format.
            teacher: The teacher's pixel format.
            channels: Channels that the teacher takes.
            swap: Whether it takes them in the other order; None for what the two preprocessors say, which is wrong
                where one of them was made for images that are RGB when they are loaded (CIFAR).
        """
        deduced = student.swapped != teacher.swapped
        swap = deduced if swap is None else swap
        mean, std = (x.flip(0) if swap else x for x in (student.mean, student.std))
        # (x·std_s + mean_s − mean_t) / std_t as one multiplication and one addition.
        scale, shift = std / teacher.std, (mean - teacher.mean) / teacher.std
        return cls(channels, swap, tuple(scale.flatten().tolist()), tuple(shift.flatten().tolist()), teacher.pad_value,
                   not swap and student.has_values_of(teacher), swap != deduced,
                   teacher.normalises and not student.normalises, divisor=student.divisor)


def conversion_for(teacher: tuple[str, str], models: tuple[nn.Module, nn.Module], channels: tuple[int, int],
                   swap: bool | None) -> InputConversion:
    """Return how a student's batch becomes what a teacher takes; a warning where the order of channels was deduced.

    Args:
        teacher: Config key of the teacher, and where its model comes from.
        models: Student and teacher.
        channels: Channels of the images of both.
        swap: See :meth:`InputConversion.between`.

    Raises:
        TeacherError: The numbers of channels differ; one can be made several.
    """
    key, name = teacher
    if channels[0] not in (channels[1], 1):
        raise TeacherError.at(f'{key}.config', name, f'the teacher takes images of {channels[1]} channels, and the '
                              f'student\'s have {channels[0]}')
    student_format, teacher_format = (PixelFormat(image_preprocessor(model)) for model in models)
    conversion = InputConversion.between(student_format, teacher_format, channels[1], swap)
    if conversion.swap and swap is None and channels[0] > 1:
        print_log(f'{key}: the teacher gets the channels of the student\'s images in the other order, because one of '
                  'their data preprocessors swaps BGR and RGB and the other does not. That is right where both were '
                  'made for images that are loaded in one order. If the data set of one gives RGB and that of the '
                  f'other BGR (CIFAR and ImageNet in MMPretrain), write {key}.swap_channels=False; True keeps the '
                  'swap without this warning', logger='current', level=logging.WARNING)
    return conversion


class InputConverter:
    """Carries out a conversion.

    Args:
        conversion: What to do.
    """

    def __init__(self, conversion: InputConversion) -> None:
        self.conversion = conversion
        self.channels = conversion.channels
        if conversion.warns:
            print_log('The student\'s data preprocessor does not normalise: its inputs are treated as pixels from 0 to '
                      '255 and normalised for the teacher. If your pipeline normalises, do it in data_preprocessor',
                      logger='current', level=logging.WARNING)
        self.scale, self.shift = (torch.tensor(x).reshape(-1, 1, 1) for x in (conversion.scale, conversion.shift))

    def as_loaded(self, image: Tensor) -> Tensor:
        """An image of the student's data set as the teacher's own preprocessor expects it.

        Args:
            image: (C, H, W), as it was loaded.

        Returns:
            Tensor: (``channels``, H, W) of the same dtype.
        """
        if image.size(0) == 1:
            return image.expand(self.channels, -1, -1)
        return image.flip(0) if self.conversion.loaded_otherwise else image

    def __call__(self, inputs: Tensor, data_samples: Sequence[Any] | None
                 ) -> tuple[Tensor, Sequence[Any] | None]:
        """Convert a batch.

        Args:
            inputs: (N, C, H, W), normalised and padded for the student.
            data_samples: Their ``img_shape`` tells padding from image, where a data preprocessor has padded it.

        Returns:
            tuple: Images (N, ``channels``, H', W'): a new tensor, or ``inputs`` itself where the formats agree; and
                data samples that describe them.
        """
        conversion = self.conversion
        is_padded = self._is_padded(inputs, data_samples or ())
        if data_samples is not None:
            size = inputs.size(-2), inputs.size(-1)
            data_samples = [conversion.image_size.describe(sample, *size) for sample in data_samples]
        pixels = self._pixels(inputs)
        images = conversion.image_size.resize(pixels)
        if is_padded and (images is not pixels or not conversion.identical):
            self._pad(images, data_samples)
        return images, data_samples

    def _pixels(self, inputs: Tensor) -> Tensor:
        """Return the batch with the teacher's channels and values."""
        if inputs.size(1) == 1:
            inputs = inputs.expand(-1, self.channels, -1, -1)
        if self.conversion.identical:
            return inputs
        if self.scale.device != inputs.device:
            self.scale, self.shift = self.scale.to(inputs.device), self.shift.to(inputs.device)
        out = inputs.flip(1) if self.conversion.swap else inputs
        return out * self.scale.to(inputs.dtype) + self.shift.to(inputs.dtype)

    def _is_padded(self, inputs: Tensor, data_samples: Sequence[Any]) -> bool:
        """Return whether ``img_shape`` tells padding from image.

        ``img_shape`` may also be the size of the file that an image was cut out of (MMPose, torchvision).
        """
        metas = [meta for meta in (getattr(sample, 'metainfo', {}) for sample in data_samples)
                 if meta.get('img_shape') is not None]
        shapes = [meta['img_shape'] for meta in metas]
        if not shapes or any('input_size' in meta for meta in metas):  # MMPose's name of the size of a cutting
            return False
        if any('pad_shape' in meta for meta in metas):
            return True
        if all(tuple(meta.get('ori_shape') or ()) == tuple(shape) for meta, shape in zip(metas, shapes)):
            return False  # torchvision's transforms leave it the size of the file
        # What a data preprocessor has padded is as large as the largest image, rounded up.
        rests = [size - max(int(shape[i]) for shape in shapes) for i, size in enumerate(inputs.shape[-2:])]
        return all(0 <= rest < self.conversion.divisor for rest in rests)

    def _pad(self, images: Tensor, data_samples: Sequence[Any] | None) -> None:
        """Give the padding of new images the teacher's value."""
        for image, sample in zip(images, data_samples or ()):
            shape = sample.metainfo.get('img_shape') if hasattr(sample, 'metainfo') else None
            if shape is not None:
                image[:, int(shape[0]):, :] = self.conversion.pad_value
                image[:, :, int(shape[1]):] = self.conversion.pad_value
