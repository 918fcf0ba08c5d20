"""Give the teacher the pixels it was trained on, from the batch that the student sees."""
from __future__ import annotations

import logging
from typing import Any, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import TeacherError


class PixelFormat:
    """How a data preprocessor presents pixels to its model.

    Attributes:
        normalises: Whether it normalises at all; pixels are taken to be 0 to 255 where it does not.
        mean: Subtracted per channel, (1 or 3, 1, 1).
        std: Divided by per channel, same shape.
        swapped: Whether the channels are in the other order than in the dataset.
        pad_value: Value of padding, after normalisation.
    """

    def __init__(self, preprocessor: nn.Module | None) -> None:
        self.normalises = bool(getattr(preprocessor, '_enable_normalize', False))
        self.mean = _stat(preprocessor, 'mean') if self.normalises else torch.zeros(1, 1, 1)
        self.std = _stat(preprocessor, 'std') if self.normalises else torch.ones(1, 1, 1)
        # mmpretrain's ClsDataPreprocessor calls it to_rgb, MMEngine's keeps a private flag, mmseg's a public one.
        self.swapped = any(getattr(preprocessor, flag, False)
                           for flag in ('to_rgb', '_channel_conversion', 'channel_conversion'))
        self.pad_value = float(getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)) or 0)

    def has_values_of(self, other: PixelFormat) -> bool:
        """Whether pixels have the same values, whatever the order of the channels."""
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
        raise TeacherError(f'cannot tell how {type(preprocessor).__name__} of {type(model).__name__} normalises images')
    return preprocessor


class InputConverter:
    """Turns the student's normalised batch into what the teacher's preprocessor would have made of it.

    Args:
        student: The student's pixel format.
        teacher: The teacher's pixel format.
        channels: Channels that the teacher takes: a student's single one is repeated.
        swap: Whether the teacher takes them in the other order; None for what the two preprocessors say, which is
            wrong where one of them was made for images that are RGB when they are loaded (CIFAR).
    """

    def __init__(self, student: PixelFormat, teacher: PixelFormat, channels: int = 3, swap: bool | None = None) -> None:
        deduced = student.swapped != teacher.swapped
        self.swap = deduced if swap is None else swap
        self.identical = not self.swap and student.has_values_of(teacher)
        self.channels = channels
        self._loaded_otherwise = self.swap != deduced
        if teacher.normalises and not student.normalises:
            print_log('The student\'s data preprocessor does not normalise: its inputs are treated as pixels from 0 to '
                      '255 and normalised for the teacher. If your pipeline normalises, do it in data_preprocessor',
                      logger='current', level=logging.WARNING)
        self.pad_value = teacher.pad_value
        mean, std = student.mean, student.std
        if self.swap:
            mean, std = mean.flip(0), std.flip(0)
        # (x·std_s + mean_s − mean_t) / std_t as one multiplication and one addition.
        self.scale = std / teacher.std
        self.shift = (mean - teacher.mean) / teacher.std

    def as_loaded(self, image: Tensor) -> Tensor:
        """An image of the student's data set as the teacher's own preprocessor expects it.

        Args:
            image: (C, H, W), as it was loaded.

        Returns:
            Tensor: (``channels``, H, W) of the same dtype.
        """
        if image.size(0) == 1:
            return image.expand(self.channels, -1, -1)
        return image.flip(0) if self._loaded_otherwise else image

    def __call__(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> Tensor:
        """Convert a batch.

        Args:
            inputs: (N, C, H, W), normalised and padded for the student.
            data_samples: Their ``img_shape`` tells padding from image.

        Returns:
            Tensor: (N, ``channels``, H, W): a new tensor, or ``inputs`` itself where the formats agree.
        """
        if inputs.size(1) == 1:
            inputs = inputs.expand(-1, self.channels, -1, -1)
        if self.identical:
            return inputs
        if self.scale.device != inputs.device:
            self.scale, self.shift = self.scale.to(inputs.device), self.shift.to(inputs.device)
        out = inputs.flip(1) if self.swap else inputs
        out = out * self.scale.to(inputs.dtype) + self.shift.to(inputs.dtype)
        for image, sample in zip(out, data_samples or ()):
            shape = sample.metainfo.get('img_shape') if hasattr(sample, 'metainfo') else None
            if shape is not None:
                image[:, int(shape[0]):, :] = self.pad_value
                image[:, :, int(shape[1]):] = self.pad_value
        return out
