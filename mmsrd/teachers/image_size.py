"""``ImageSize``: a teacher that sees the student's images at another size."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import TeacherError

_SHAPES = ('img_shape', 'pad_shape', 'batch_input_shape')
"""Entries of a data sample that tell sizes (H, W) in pixels of the image that a model sees."""


@dataclass(frozen=True)
class ImageSize:
    """Size of a teacher's images, from that of the student's.

    Attributes:
        scale: Factor of height and width.
        size: Height and width whatever the student's are; None for a factor.
        divisor: Number that divides height and width, as the teacher's data preprocessor wants it; sides are rounded
            to its nearest multiple, with another scale than 1.
        multiple: Number that has to divide them with any scale, because the model fails on other images.

    Example:
        >>> from mmsrd.teachers.image_size import ImageSize
        >>> ImageSize(0.5, divisor=32)(416, 640), ImageSize(size=(224, 224))(416, 640), ImageSize()(416, 640)
        ((224, 320), (224, 224), (416, 640))
        >>> ImageSize(multiple=32)(300, 300)
        (288, 288)
    """

    scale: float = 1.0
    size: Optional[Tuple[int, int]] = None
    divisor: int = 1
    multiple: int = 1

    @classmethod
    def for_model(cls, scale: float, size: Tuple[int, int] | None, model: nn.Module) -> ImageSize:
        """Return the size for a teacher whose data preprocessor knows a divisor.

        Args:
            scale: Factor of height and width.
            size: Height and width whatever the student's are; None for a factor.
            model: The teacher.
        """
        divisor = getattr(getattr(model, 'data_preprocessor', None), 'pad_size_divisor', 1)
        return cls(scale, size, divisor if isinstance(divisor, int) and divisor > 0 else 1)

    @property
    def is_same(self) -> bool:
        """Return whether the teacher sees the student's size, at most rounded."""
        return self.size is None and self.scale == 1

    @property
    def differs(self) -> bool:
        """Return whether the teacher may see another size than the student."""
        return not self.is_same or self.multiple > 1

    def __str__(self) -> str:
        if self.size:
            return f'{self.size[0]}x{self.size[1]} pixels'
        rounded = f', rounded to multiples of {self.multiple}' if self.multiple > 1 else ''
        return ("the student's size" if self.is_same else f"{self.scale:g} times the student's size") + rounded

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """Return the size for student's images of ``height`` and ``width`` pixels."""
        if self.size is not None:
            return self.size
        step = self.multiple if self.is_same else max(self.divisor, self.multiple)
        return (max(step, int(height * self.scale / step + 0.5) * step),
                max(step, int(width * self.scale / step + 0.5) * step))

    def check(self, key: str, height: int, width: int, stride: float) -> None:
        """Refuse a scale that makes images smaller than one position of a level that is compared.

        Args:
            key: Config key of the teacher.
            height: Height in pixels of the student's images.
            width: Width of them.
            stride: Pixels of the teacher's images per position of its deepest level.

        Raises:
            TeacherError: It does.
        """
        target = self(height, width)
        if self.scale != 1 and min(target) < stride:
            raise TeacherError.at(f'{key}.scale', self.scale, f"the student's images of {height}x{width} become "
                                  f'{target[0]}x{target[1]}, less than one position of the teacher\'s level of stride '
                                  f'{stride:g}; use a larger scale')

    def resize(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) at the teacher's size: bilinear, antialiased, of the same dtype."""
        target = self(images.size(-2), images.size(-1))
        if target == tuple(images.shape[-2:]):
            return images
        exact = images if images.is_floating_point() else images.float()
        resized = interpolate(exact, target, mode='bilinear', antialias=True)
        if images.is_floating_point():
            return resized
        limits = torch.iinfo(images.dtype)
        return resized.round().clamp(limits.min, limits.max).to(images.dtype)

    def describe(self, sample: Any, height: int, width: int) -> Any:
        """Return a data sample whose metadata describe the resized image; annotations stay those of the student's.

        Args:
            sample: The student's data sample.
            height: Height in pixels of its image, padding included.
            width: Width of it.
        """
        target = self(height, width)
        return sample if target == (height, width) or not hasattr(sample, 'metainfo') else \
            _resized(sample, (target[0] / height, target[1] / width), target)


def _resized(sample: Any, factors: tuple[float, float], target: tuple[int, int]) -> Any:
    meta = dict(sample.metainfo)
    for name in _SHAPES:
        shape = meta.get(name)
        if shape is not None:
            sides = (min(max(round(side * factor), 1), limit) for side, factor, limit in zip(shape, factors, target))
            meta[name] = (*sides, *shape[2:])
    for name in ('scale_factor', 'input_size'):  # width first; four factors are twice two; MMPose has the size
        if meta.get(name) is not None:
            meta[name] = tuple(value * factors[1 - i % 2] for i, value in enumerate(list(meta[name])))
    return sample.new(metainfo=meta)
