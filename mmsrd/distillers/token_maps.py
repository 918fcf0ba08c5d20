"""Token sequences of transformers as positions of an image."""
from __future__ import annotations

import math

from torch import Tensor

from ..errors import FeatureMismatchError


def num_prefix_tokens(count: int) -> int:
    """Class, distillation and register tokens among ``count`` tokens of a square image.

    Patches of a square image are a square number and come last, so the others are
    what exceeds the largest square. Right for up to 2·√patches of them.
    """
    return count - math.isqrt(count) ** 2


def as_map(tokens: Tensor, like: tuple[int, int] | None = None) -> Tensor:
    """Arrange patch tokens (N, L, C) as a map (N, C, H, W).

    Args:
        tokens: Patch tokens, row by row.
        like: Size (H, W) of a map of the same images, whose proportions the result has; None for square images.

    Raises:
        FeatureMismatchError: L tokens do not fill such a rectangle.
    """
    count = tokens.size(1)
    ratio = like[0] / like[1] if like else 1.0
    height = max(round(math.sqrt(count * ratio)), 1)
    if height * (count // height) != count:
        shape = f'the proportions of {like[0]}x{like[1]}' if like else 'a square'
        raise FeatureMismatchError(f'{count} patch tokens do not make a map with {shape}; pool=True compares means')
    return tokens.transpose(1, 2).reshape(tokens.size(0), tokens.size(2), height, count // height)
