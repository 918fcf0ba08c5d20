"""Which student level is compared with which teacher level, and in what shape."""
from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from ..config import LossConfig
from ..config.loss_config import BY_STRIDE
from ..errors import ConfigError, FeatureMismatchError
from ..utils.tensors import pool_rows, resize_map

Shape = Sequence[int]


@dataclass(frozen=True)
class LevelPair:
    """One comparison: level indices, and the shapes of the dry run (of one image; two where a model squeezes a batch).

    Attributes:
        student: Index into the student's levels.
        teacher: Index into the teacher's levels.
        student_shape: Shape of the student level.
        teacher_shape: Shape of the teacher level.
        prefix_tokens: Tokens in front of the patches, of student and teacher, that are left out.
        strides: Pixels per position, of student and teacher; None for vectors and sequences without positions.
        counts: Number of levels that student and teacher have.
        teacher_size: Size (H, W) of the teacher's images where it is always the same.
    """

    student: int
    teacher: int
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    prefix_tokens: tuple[int, int] = (0, 0)
    strides: tuple[float | None, float | None] = (None, None)
    counts: tuple[int, int] = (1, 1)
    teacher_size: tuple[int, int] | None = None

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of student and teacher."""
        return _channels(self.student_shape), _channels(self.teacher_shape)


def _channels(shape: Shape) -> int:
    return shape[2] if len(shape) == 3 else shape[1]


def stride_of(shape: Shape, image: tuple[int, int], tokens: str = 'all') -> float | None:
    """Pixels per position of a feature of a square image; None where it has no positions.

    Args:
        shape: Shape (N, C, H, W), (N, L, C) or (N, C).
        image: Size (H, W) of the image that it comes from.
        tokens: ``'patch'`` where tokens (N, L, C) are positions.
    """
    size = _size(shape) if len(shape) == 4 or (len(shape) == 3 and tokens == 'patch') else ()
    return image[0] / size[0] if size and size[0] else None


def match_levels(config: LossConfig, student: list[tuple[int, ...]], teacher: list[tuple[int, ...]],
                 images: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1)),
                 teacher_size: tuple[int, int] | None = None) -> list[LevelPair]:
    """Pair levels by index, by stride, or as ``config.levels`` says, and check that each pair can be compared.

    Args:
        config: The loss that compares them.
        student: Shapes of the student's levels.
        teacher: Shapes of the teacher's levels.
        images: Sizes (H, W) of the images that the shapes come from; only with equal ones can positions be compared.
        teacher_size: Size (H, W) of the teacher's images where it is always the same.

    Raises:
        FeatureMismatchError: Level counts, ranks or sizes do not fit.
        ConfigError: ``levels`` names a level that does not exist.

    Example:
        >>> from mmsrd.config import LossConfig
        >>> from mmsrd.distillers import match_levels
        >>> config = LossConfig('neck', {}, 'neck', 'neck', levels=[(0, -1)])
        >>> pair, = match_levels(config, [(1, 8, 4, 4)], [(1, 16, 8, 8), (1, 16, 4, 4)])
        >>> pair.student, pair.teacher, pair.channels
        (0, 1, (8, 16))
    """
    pairs = []
    for s, t in _indices(config, student, teacher, images):
        shapes = student[s], teacher[t]
        prefix = [num_prefix_tokens(shape[1]) if config.tokens == 'patch' and len(shape) == 3 else 0
                  for shape in shapes]
        strides = [stride_of(shape, image, config.tokens) for shape, image in zip(shapes, images)]
        pair = LevelPair(s, t, *shapes, (prefix[0], prefix[1]), (strides[0], strides[1]), (len(student), len(teacher)),
                         teacher_size)
        _check_pair(config, pair, images)
        pairs.append(pair)
    return pairs


def pairs_by_stride(student: Sequence[float | None], teacher: Sequence[float | None]) -> list[tuple[int, int]]:
    """Indices of levels of the same stride, to the nearest power of two; of several of one stride the last.

    Where no stride is shared, the two nearest levels are paired. Empty if a side has no strides.

    Example:
        >>> from mmsrd.distillers.level_matching import pairs_by_stride
        >>> pairs_by_stride([8, 16, 32], [4, 8, 16])
        [(0, 1), (1, 2)]
    """
    own, other = ({round(math.log2(stride)): i for i, stride in enumerate(strides) if stride}
                  for strides in (student, teacher))
    pairs = [(octave, octave) for octave in own if octave in other]
    if not pairs and own and other:
        pairs = [min(((a, b) for a in own for b in other), key=lambda pair: abs(pair[0] - pair[1]))]
    return [(own[a], other[b]) for a, b in pairs]


def _indices(config: LossConfig, student: list[tuple[int, ...]], teacher: list[tuple[int, ...]],
             images: tuple[tuple[int, int], tuple[int, int]]) -> list[tuple[int, int]]:
    """Return which levels are compared, as indices from 0."""
    counts = len(student), len(teacher)
    if config.levels == BY_STRIDE:
        pairs = pairs_by_stride(*([stride_of(shape, image, config.tokens) for shape in shapes]
                                  for shapes, image in zip((student, teacher), images)))
        if not pairs:
            raise FeatureMismatchError(
                f'{config.key}.levels = {BY_STRIDE!r}: the student has the levels {_list(student)} and the teacher '
                f'{_list(teacher)}, and one of them has no maps; remove `levels` to pair them by index')
        return pairs
    if config.levels is None:
        if counts[0] != counts[1]:
            side = 'student' if counts[0] > counts[1] else 'teacher'
            raise FeatureMismatchError(
                f'{config.key}: the student has {counts[0]} levels {_list(student)} and the teacher {counts[1]} '
                f'{_list(teacher)}; level(s) {", ".join(map(str, range(min(counts), max(counts))))} exist only in the '
                f'{side}. Choose levels with levels={list(range(min(counts)))}, pairs of levels with '
                f'levels=[(student, teacher), ...], or equal strides with levels={BY_STRIDE!r}')
        return [(i, i) for i in range(counts[0])]
    assert not isinstance(config.levels, str), 'the only word there is was dealt with'
    for pair in config.levels:
        for side, index, shapes in zip(('student', 'teacher'), pair, (student, teacher)):
            if not -len(shapes) <= index < len(shapes):
                raise ConfigError.at(f'{config.key}.levels', config.levels,
                                     f'the {side} has no level {index}; it has {len(shapes)}: {_list(shapes)}')
    return [(s % counts[0], t % counts[1]) for s, t in config.levels]


def _check_pair(config: LossConfig, pair: LevelPair, images: tuple[tuple[int, int], tuple[int, int]]) -> None:
    shapes = f'student level {pair.student} {pair.student_shape} and teacher level {pair.teacher} {pair.teacher_shape}'
    ranks = [len(shape) for shape in (pair.student_shape, pair.teacher_shape)]
    if not set(ranks) <= {2, 3, 4}:
        raise FeatureMismatchError(f'{config.key}: {shapes}: features must be (N, C), (N, L, C) or (N, C, H, W)')
    for side, i, shape, image in (('student', pair.student, pair.student_shape, images[0]),
                                  ('teacher', pair.teacher, pair.teacher_shape, images[1])):
        if len(shape) == 4 and image[0] == image[1] and shape[2] != shape[3]:
            raise FeatureMismatchError(
                f'{config.key}: {side} level {i} {shape} comes from a square image, so it is no map (N, C, H, W); '
                'channels that come last, and outputs of several layers in one tensor, cannot be compared')
    # The dry run has an image, or two, and few models have branches.
    regions = [shape[0] for shape in (pair.student_shape, pair.teacher_shape) if len(shape) != 3 and shape[0] > 16]
    if regions:
        raise FeatureMismatchError(f'{config.key}: {shapes} are of {regions[0]} regions of an image, which each model '
                                   'proposes for itself, so they cannot be compared; choose features of whole images, '
                                   'such as those of neck or backbone')
    if ranks[1] == 3 and pair.teacher_size and len(set(pair.teacher_size)) > 1 \
            and (config.tokens == 'patch' or not config.pool):
        raise FeatureMismatchError(f'{config.key}: {shapes}: tokens of the teacher make a map only if its images are '
                                   f'square; make `size` of the teacher square, not {pair.teacher_size}')
    if config.pool:
        return
    if sorted(ranks) == [3, 4] and config.tokens == 'all':
        raise FeatureMismatchError(f"{config.key}: {shapes} are tokens and a map; tokens='patch' makes a map of the "
                                   'patch tokens, pool=True compares means')
    if ranks[0] != ranks[1] and 2 in ranks:
        raise FeatureMismatchError(f'{config.key}: {shapes} have different layouts; pool=True compares their means')
    if images[0] != images[1]:
        return
    if ranks == [3, 3] and config.tokens == 'all' and pair.student_shape[1] != pair.teacher_shape[1]:
        raise FeatureMismatchError(f"{config.key}: {shapes} have different numbers of tokens; tokens='patch' leaves "
                                   'class and distillation tokens out, pool=True compares means')
    if config.resize == 'none' and _size(pair.student_shape) != _size(pair.teacher_shape):
        raise FeatureMismatchError(f'{config.key}: {shapes} differ in size and resize=\'none\'; '
                                   "write resize='to_student' or resize='to_teacher'")


def _size(shape: Shape) -> tuple[int, ...]:
    """Size (H, W) of a map, or of the map that the patch tokens of a square image make."""
    return (math.isqrt(shape[1]),) * 2 if len(shape) == 3 else tuple(shape[2:])


def _list(shapes: list[tuple[int, ...]]) -> str:
    return '[' + ', '.join('x'.join(map(str, shape[1:])) for shape in shapes) + ']'


def match_shapes(student: Tensor, teacher: Tensor, pair: LevelPair, config: LossConfig,
                 image: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Give two paired features the same positions: pooled to (N, C), or maps resized to one size.

    A student that trains with several branches for each image (TridentNet) has all images of
    one branch, then those of the next; each is compared with the teacher's.

    Tokens become maps with the proportions of ``image`` (H, W); where that is not known, of the
    other feature, if that is a map, else square.

    Args:
        student: Level of the student.
        teacher: Level of the teacher.
        pair: Plan of the two levels.
        config: The loss that compares them.
        image: Size (H, W) of the images.

    Raises:
        FeatureMismatchError: Patch tokens do not make a map, or are not those of the whole image.
    """
    if student.dim() == 3 and image is not None and not config.pool:
        _check_number(student.size(1) - pair.prefix_tokens[0], pair, image, config)
    student, teacher = (x[:, n:] if n else x for x, n in zip((student, teacher), pair.prefix_tokens))
    if student.size(0) != teacher.size(0):
        teacher = _for_branches(student, teacher, pair)
    if config.pool:
        return pool_rows(student), pool_rows(teacher)
    ranks = {student.dim(), teacher.dim()}
    other_size = pair.teacher_size is not None and config.tokens == 'patch'
    if 3 in ranks and (len(ranks) > 1 or student.size(1) != teacher.size(1) or other_size):
        maps = [(x.size(2), x.size(3)) for x in (student, teacher) if x.dim() == 4 and pair.teacher_size is None]
        like = image or (maps[0] if maps else None)  # a coarse map is rounded up, more on one side than on the other
        student, teacher = (as_map(x, own) if x.dim() == 3 else x
                            for x, own in ((student, like), (teacher, pair.teacher_size or like)))
    if student.dim() == 4 and student.shape[-2:] != teacher.shape[-2:]:
        if config.resize == 'to_student':
            teacher = resize_map(teacher, (student.size(-2), student.size(-1)))
        elif config.resize == 'to_teacher':
            student = resize_map(student, (teacher.size(-2), teacher.size(-1)))
    return student, teacher


def _check_number(count: int, pair: LevelPair, image: tuple[int, int], config: LossConfig) -> None:
    """Refuse tokens of a part of the image.

    There may be as many as in the dry run: the model resizes its images. Else a patch more or less at each side, and
    at each side of the dry run's image, from which the stride is known.
    """
    stride = pair.strides[0]
    if stride is None or count == (before := pair.student_shape[1] - pair.prefix_tokens[0]):
        return
    side = math.isqrt(before)
    rows, columns = (pixels / stride for pixels in image)
    least, most = (max(rows + patch, 0) * max(columns + patch, 0) * (1 + patch / side) ** 2 for patch in (-1, 1))
    if rows == columns == side or not least <= count <= most:
        raise FeatureMismatchError(
            f'{config.key}: the student gave {count} patch tokens for images of {image[0]}x{image[1]} in this step, '
            f'where the dry run had one for {stride:g}x{stride:g} pixels; a student that masks its images (MAE) shows '
            'only a part of them, in any order')


def _for_branches(student: Tensor, teacher: Tensor, pair: LevelPair) -> Tensor:
    """The teacher's feature once for each branch of the student."""
    branches, rest = divmod(student.size(0), teacher.size(0))
    of_images = pair.student_shape[0] == pair.teacher_shape[0]  # not of a number of regions that the model chooses
    return teacher if rest or not of_images else torch.cat([teacher] * branches)


def num_prefix_tokens(count: int) -> int:
    """Class, distillation and register tokens among ``count`` tokens of a square image.

    Patches of a square image are a square number and come last, so the others are
    what exceeds the largest square. Right for up to 2·√patches of them.
    """
    return count - math.isqrt(count) ** 2


@functools.lru_cache(None)
def _closest_size(count: int, ratio: float) -> tuple[int, int]:
    """Return the height and width of the map of ``count`` positions whose proportions are closest to ``ratio``."""
    sizes = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))


def as_map(tokens: Tensor, like: tuple[int, int] | None = None) -> Tensor:
    """Arrange patch tokens (N, L, C) as a map (N, C, H, W).

    Args:
        tokens: Patch tokens, row by row.
        like: Size (H, W) of a map of the same images, whose proportions the result has; None for square images.

    Raises:
        FeatureMismatchError: L tokens do not fill such a rectangle.
    """
    count = tokens.size(1)
    height, width = _closest_size(count, like[0] / like[1] if like else 1.0)
    # A model may cut off or pad a part of a patch at each side.
    fits = height == width if like is None else \
        (height - 1) * like[1] <= (width + 1) * like[0] and (width - 1) * like[0] <= (height + 1) * like[1]
    if not fits:
        shape = f'the proportions of {like[0]}x{like[1]}' if like else 'a square'
        raise FeatureMismatchError(f'{count} patch tokens do not make a map with {shape}; pool=True compares means')
    return tokens.transpose(1, 2).reshape(tokens.size(0), tokens.size(2), height, width)
