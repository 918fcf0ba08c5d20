"""Do a teacher's speed-ups change its features? Tried with a batch, on the device where it runs."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..config import PLAIN, InferenceConfig
from ..models.losses.functional import standardize
from ..ops import MIN_ROWS
from ..utils.tensors import num_rows
from .teacher import Features, Teacher

ALIGNED = 0.99
"""Alignment with the plain features below which a speed-up is switched off. bfloat16 has 0.999 and more."""
REPEATS = 3
"""Passes on the side stream that are compared with one in order."""
_OFF: Dict[str, Any] = {'inference.compile': False, 'inference.channels_last': False, 'inference.precision': 'fp32',
                        'inference.fold': False, 'offload': False}
"""Speed-ups in the order in which they are suspected, by config key, and what switches each of them off."""
_UNKNOWN = -2.0


@dataclass(frozen=True)
class SpeedupCheck:
    """Result of :func:`check_speedups`.

    Attributes:
        alignment: Lowest alignment of a level with the plain features, as the teacher runs now; None if unknown.
        switched_off: Speed-ups that had to be switched off: config key below the teacher's → what was found.
        failure: Why the teacher could not be checked; empty where it was.
    """

    alignment: float | None = None
    switched_off: Tuple[Tuple[str, str], ...] = ()
    failure: str = ''


def check_speedups(teacher: Teacher, batch: tuple[Tensor, Sequence[Any] | None], student_dtype: torch.dtype | None,
                   lowest: Callable[[float], float] = float) -> SpeedupCheck:
    """Compare a teacher's features with those of a plain forward pass in float32, and switch off what changes them.

    The speed-ups are left out one by one until the features are right; where none alone is the cause, all are left
    out. Then features from the side stream are compared with those computed in order, bit for bit. Afterwards the
    teacher runs as it was found to be right.

    Args:
        teacher: A ready teacher that has kept its original.
        batch: The student's normalised batch (N, C, H, W) and its data samples.
        student_dtype: Autocast dtype of the student; None for none.
        lowest: Lowest value among all processes, which decide together; that of this process by default.
    """
    asked = _Way(teacher.inference, teacher.offloads)
    plain: Features | None = None
    failure = ''
    try:
        teacher.speed_up_by(*_Way(InferenceConfig(**PLAIN), False))
        plain = teacher.compute(*batch, None)
        if not all(bool(x.isfinite().all()) for levels in plain.values() for x in levels):
            plain, failure = None, 'its plain features are not finite'
    except Exception as e:  # out of memory
        plain, failure = None, f'{type(e).__name__}: {e}'

    def alignment(way: _Way) -> tuple[float, str]:
        """Return the lowest alignment of all processes, and why there are no features in this one."""
        if plain is None:
            return lowest(_UNKNOWN), failure
        value, why = -1.0, ''
        try:
            teacher.speed_up_by(*way)
            value = feature_alignment(teacher.compute(*batch, student_dtype), plain)
        except Exception as e:  # a compiler that fails; memory, of which the check needs more, for the plain features
            why = f'{type(e).__name__}: {e}'
            value = _UNKNOWN if isinstance(e, torch.cuda.OutOfMemoryError) else value
        return lowest(value), why

    value, reason = alignment(asked)
    if value == _UNKNOWN:
        teacher.speed_up_by(*asked)
        return SpeedupCheck(failure=reason or 'see the message of another process')
    switched: list[tuple[str, str]] = []
    if value < ALIGNED:
        why = reason or f'alignment {value:.4f} with the features of the plain teacher in float32'
        found = 0.0
        for name in _OFF:
            if asked.without(name) != asked and (found := alignment(asked.without(name))[0]) >= ALIGNED:
                asked, switched = asked.without(name), [(name, f'{why}; {found:.4f} without it')]
                break
        else:
            for name in _OFF:
                asked = asked.without(name)
            found, _ = alignment(asked)
            switched = [(', '.join(_OFF), f'{why}; {found:.4f} without all of them')]
        value = found
    plain = None  # its memory is needed
    if asked.inference.stream:
        reason = _fault_of_stream(teacher, batch, student_dtype)
        if lowest(float(not reason)) < 1:
            teacher.inference = replace(asked.inference, stream=False)
            switched.append(('inference.stream', reason or 'see the message of another process'))
    return SpeedupCheck(value, tuple(switched))


class _Way(NamedTuple):
    """One way to make a teacher fast."""

    inference: InferenceConfig
    offloads: bool

    def without(self, name: str) -> _Way:
        """Return the same without the speed-up of a config key."""
        option = name.partition('.')[2]
        return self._replace(inference=replace(self.inference, **{option: _OFF[name]})) if option else \
            self._replace(offloads=False)


def feature_alignment(features: Features, plain: Features) -> float:
    """Return the lowest cosine similarity of a level with its plain one, both standardised as the SRD loss sees them.

    Args:
        features: Levels by path.
        plain: The same levels as they should be.

    Returns:
        float: At most 1; -1 where a level has another shape, or is not finite.
    """
    lowest = 1.0
    for path, levels in plain.items():
        for level, expected in zip(features[path], levels):
            if level.shape != expected.shape or not bool(level.isfinite().all()):
                return -1.0
            a, b = level.float(), expected.float()
            if num_rows(a) < MIN_ROWS:  # too few for statistics: the cosine of vectors of one length, by their distance
                lowest = min(lowest, 1 - 0.5 * float((a - b).norm() / b.norm().clamp_min(1e-12)) ** 2)
                continue
            z, t = standardize(a), standardize(b)
            scale = (z.square().mean() * t.square().mean()).sqrt().clamp_min(1e-12)
            lowest = min(lowest, 1.0 if torch.equal(a, b) else float((z * t).mean() / scale))  # or constant
    return lowest


def _fault_of_stream(teacher: Teacher, batch: tuple[Tensor, Sequence[Any] | None],
                     student_dtype: torch.dtype | None) -> str:
    """Return why features from the side stream are not those computed in order, with other work queued beside it."""
    try:
        expected, again = (teacher.compute(*batch, student_dtype) for _ in range(2))
        exact = _equal(expected, again)  # some kernels add in an order of their own
        work = torch.randn(4096, 4096, device=batch[0].device)
        for _ in range(REPEATS):
            work = work.sin()  # elementwise: matrix products may be refused where algorithms have to be deterministic
            features = teacher.forward_async(*batch, student_dtype)
            work = work.sin()  # as the student's head would be
            teacher.synchronize()
            if not _equal(features, expected) and (exact or feature_alignment(features, expected) < ALIGNED):
                return 'features differ from those computed in order'
        return ''
    except Exception as e:
        return f'{type(e).__name__}: {e}'


def _equal(one: Features, other: Features) -> bool:
    return all(torch.equal(a, b) for path in one for a, b in zip(one[path], other[path]))
