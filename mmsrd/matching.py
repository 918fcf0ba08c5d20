"""Which student level is compared with which teacher level, and in what shape."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from . import functional as SF
from .errors import ConfigError, FeatureMismatchError
from .tokens import as_map, leading_tokens

Shape = Sequence[int]
RESIZES = ('to_student', 'to_teacher', 'none')


@dataclass(frozen=True)
class LevelPair:
    """One comparison: level indices, and the shapes of the dry run (batch of one).

    Attributes:
        student: Index into the student's levels.
        teacher: Index into the teacher's levels.
        student_shape: Shape of the student level.
        teacher_shape: Shape of the teacher level.
        leading: Tokens in front of the patches, of student and teacher, that are left out.
        strides: Pixels per position, of student and teacher; None for vectors and sequences without positions.
        counts: Number of levels that student and teacher have.
    """

    student: int
    teacher: int
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]
    leading: tuple[int, int] = (0, 0)
    strides: tuple[float | None, float | None] = (None, None)
    counts: tuple[int, int] = (1, 1)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of student and teacher."""
        return _channels(self.student_shape), _channels(self.teacher_shape)


def _channels(shape: Shape) -> int:
    return shape[2] if len(shape) == 3 else shape[1]


def stride_of(shape: Shape, image: tuple[int, int], tokens: str = 'all') -> float | None:
    """Pixels per position of a feature of a square image; None where it has no positions."""
    size = _size(shape) if len(shape) == 4 or (len(shape) == 3 and tokens == 'patch') else ()
    return image[0] / size[0] if size and size[0] else None


def match_levels(key: str, student: list[tuple[int, ...]], teacher: list[tuple[int, ...]],
                 levels: list[tuple[int, int]] | None, pool: bool, resize: str,
                 images: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1)),
                 tokens: str = 'all') -> list[LevelPair]:
    """Pair levels by index, or as ``levels`` says, and check that each pair can be compared.

    Args:
        key: Config key of the loss, for messages.
        student: Shapes of the student's levels.
        teacher: Shapes of the teacher's levels.
        levels: None for all; else (student, teacher) index pairs; negative ones count from the end.
        pool: Whether features are averaged over positions first.
        resize: One of :data:`RESIZES`.
        images: Sizes (H, W) of the images that the shapes come from; only with equal ones can positions be compared.
        tokens: One of :data:`mmsrd.tokens.TOKENS`.

    Raises:
        FeatureMismatchError: Level counts, ranks or sizes do not fit.
        ConfigError: ``levels`` names a level that does not exist.
    """
    if levels is None:
        if len(student) != len(teacher):
            extra = range(min(len(student), len(teacher)), max(len(student), len(teacher)))
            side = 'student' if len(student) > len(teacher) else 'teacher'
            raise FeatureMismatchError(
                f'{key}: the student has {len(student)} levels {_list(student)} and the teacher {len(teacher)} '
                f'{_list(teacher)}; level(s) {", ".join(map(str, extra))} exist only in the {side}. Pick with '
                f'levels={list(range(min(len(student), len(teacher))))} or pairs levels=[(student, teacher), ...]')
        indices = [(i, i) for i in range(len(student))]
    else:
        indices = levels
    pairs = []
    for s, t in indices:
        for side, index, shapes in (('student', s, student), ('teacher', t, teacher)):
            if not -len(shapes) <= index < len(shapes):
                raise ConfigError.at(f'{key}.levels', levels,
                                     f'the {side} has no level {index}; it has {len(shapes)}: {_list(shapes)}')
        s, t = s % len(student), t % len(teacher)
        shapes_of_pair = student[s], teacher[t]
        leading = [leading_tokens(shape[1]) if tokens == 'patch' and len(shape) == 3 else 0 for shape in shapes_of_pair]
        strides = [stride_of(shape, image, tokens) for shape, image in zip(shapes_of_pair, images, strict=True)]
        pair = LevelPair(s, t, *shapes_of_pair, (leading[0], leading[1]), (strides[0], strides[1]),
                         (len(student), len(teacher)))
        _check_pair(key, pair, pool, resize, images[0] == images[1], tokens)
        pairs.append(pair)
    return pairs


def _check_pair(key: str, pair: LevelPair, pool: bool, resize: str, same_image: bool, tokens: str) -> None:
    shapes = f'student level {pair.student} {pair.student_shape} and teacher level {pair.teacher} {pair.teacher_shape}'
    ranks = [len(shape) for shape in (pair.student_shape, pair.teacher_shape)]
    if not set(ranks) <= {2, 3, 4}:
        raise FeatureMismatchError(f'{key}: {shapes}: features must be (N, C), (N, L, C) or (N, C, H, W)')
    if pool:
        return
    if sorted(ranks) == [3, 4] and tokens == 'all':
        raise FeatureMismatchError(f"{key}: {shapes} are tokens and a map; tokens='patch' makes a map of the patch "
                                   'tokens, pool=True compares means')
    if ranks[0] != ranks[1] and 2 in ranks:
        raise FeatureMismatchError(f'{key}: {shapes} have different layouts; pool=True compares their means')
    if not same_image:
        return
    if ranks == [3, 3] and tokens == 'all' and pair.student_shape[1] != pair.teacher_shape[1]:
        raise FeatureMismatchError(f"{key}: {shapes} have different numbers of tokens; tokens='patch' leaves class and "
                                   'distillation tokens out, pool=True compares means')
    if resize == 'none' and _size(pair.student_shape) != _size(pair.teacher_shape):
        raise FeatureMismatchError(f'{key}: {shapes} differ in size and resize=\'none\'; accepted: '
                                   + ', '.join(map(repr, RESIZES)))


def _size(shape: Shape) -> tuple[int, ...]:
    """Size (H, W) of a map, or of the map that the patch tokens of a square image make."""
    return (math.isqrt(shape[1]),) * 2 if len(shape) == 3 else tuple(shape[2:])


def _list(shapes: list[tuple[int, ...]]) -> str:
    return '[' + ', '.join('x'.join(map(str, shape[1:])) for shape in shapes) + ']'


def conform(student: Tensor, teacher: Tensor, pair: LevelPair, pool: bool, resize: str,
            image: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Give two paired features the same positions: pooled to (N, C), or maps resized to one size.

    A student that trains with several branches for each image (TridentNet) has all images of
    one branch, then those of the next; each is compared with the teacher's.

    Tokens become maps with the proportions of the other feature, where that is a map,
    else of ``image`` (H, W), else square.

    Raises:
        FeatureMismatchError: Patch tokens do not make a map.
    """
    student, teacher = (x[:, n:] if n else x for x, n in zip((student, teacher), pair.leading, strict=True))
    if student.size(0) != teacher.size(0):
        teacher = _for_branches(student, teacher, pair)
    if pool:
        return SF.pool_rows(student), SF.pool_rows(teacher)
    ranks = {student.dim(), teacher.dim()}
    if 3 in ranks and (len(ranks) > 1 or student.size(1) != teacher.size(1)):
        maps = [(x.size(2), x.size(3)) for x in (student, teacher) if x.dim() == 4]
        like = maps[0] if maps else image
        student, teacher = (as_map(x, like) if x.dim() == 3 else x for x in (student, teacher))
    if student.dim() == 4 and student.shape[-2:] != teacher.shape[-2:]:
        if resize == 'to_student':
            teacher = SF.resize_map(teacher, (student.size(-2), student.size(-1)))
        elif resize == 'to_teacher':
            student = SF.resize_map(student, (teacher.size(-2), teacher.size(-1)))
    return student, teacher


def _for_branches(student: Tensor, teacher: Tensor, pair: LevelPair) -> Tensor:
    """The teacher's feature once for each branch of the student."""
    branches, rest = divmod(student.size(0), teacher.size(0))
    of_images = pair.student_shape[0] == pair.teacher_shape[0]  # not of a number of regions that the model chooses
    return teacher if rest or not of_images else torch.cat([teacher] * branches)
