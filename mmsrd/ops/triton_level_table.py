"""Table of the levels that kernels handle at once: for each a row of integers on the device."""
from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor

COLUMNS = ('a', 'b', 'out', 'an', 'ac', 'al', 'bn', 'bc', 'bl', 'on', 'oc', 'ol', 'level', 'channels', 'length',
           'slots', 'chunk', 'column', 'partial', 'first')
"""Addresses of student, teacher and gradient; their strides (batch, channel, row); number of the level; numbers of
its channels, of rows of a batch element, of slots; rows of a chunk; first of its columns; partial results before those
of the level; its first program within the group. Rows are multiples of 16 bytes, as is the address of each."""
TILE = 4096
"""Elements of a tile: 16 to 32 per thread of 4 warps or 8, enough loads in flight to fill the memory's pipeline."""
TILES_PER_PROGRAM = 4
VECTOR = 16
"""Bytes of the widest load of a thread."""
WIDE = 4
"""Levels whose strides are multiples of it have a launch of their own: they are the large ones."""


class Group(NamedTuple):
    """Neighbouring rows of the table whose features a kernel handles in one launch.

    Attributes:
        first: First of its rows.
        levels: Number of its rows.
        programs: Number of programs.
        types: Dtypes of student and teacher.
        along: Contiguous dimension of student, teacher and gradient: ``'rows'``, ``'channels'`` or ``'none'``.
        align: All other strides, and the size of the contiguous dimension, are multiples of it; 1 where an address is
            not a multiple of 16 bytes.
        tile: Channels and rows of a tile.
    """

    first: int
    levels: int
    programs: int
    types: tuple[torch.dtype, ...]
    along: tuple[str, ...]
    align: int
    tile: tuple[int, int]


@dataclass(frozen=True, eq=False)  # compared by identity: it is part of a key at every step
class Layout:
    """Order and launches of some levels.

    Attributes:
        groups: Launches of a pass over the features.
        order: Level of each row of the table.
        rows: The rows without their addresses.
        partials: Number of partial results, slots times channels.
    """

    groups: tuple[Group, ...]
    order: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    partials: int


class _Level(NamedTuple):
    """A level's features as (batch, channels, rows)."""

    number: int
    shape: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    types: tuple[torch.dtype, ...]
    align: int

    @property
    def along(self) -> tuple[str, ...]:
        return tuple('rows' if row == 1 else 'channels' if channel == 1 else 'none'
                     for _, channel, row in self.strides)

    @property
    def kind(self) -> tuple[str, ...]:
        """Levels of one kind share a launch."""
        return *map(str, self.types), *self.along, str(self.align >= WIDE)


def shape_and_strides(x: Tensor) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return shape and strides of a feature as (batch, channels, rows); None where rows are not equally far apart."""
    shape, strides = x.shape, x.stride()
    if len(shape) == 2:
        return (shape[0], shape[1], 1), (strides[0], strides[1], 1)
    if len(shape) == 3:
        return (shape[0], shape[2], shape[1]), (strides[0], strides[2], strides[1])
    n, c, h, w = shape
    if h > 1 and w > 1 and strides[2] != w * strides[3]:  # a crop
        return None
    return (n, c, h * w), (strides[0], strides[1], strides[3] if w > 1 else strides[2])


@functools.lru_cache(maxsize=256)  # multi-scale training has some dozens of image sizes
def make_layout(levels: tuple[tuple[Any, ...], ...]) -> Layout:
    """Return the layout of levels.

    Args:
        levels: For each its shape (N, C, L), strides of its features, their dtypes, and whether all addresses are
            multiples of 16 bytes.
    """
    known = [_level(number, *level) for number, level in enumerate(levels)]
    columns = [sum(level.shape[1] for level in known[:i]) for i in range(len(known))]
    known.sort(key=lambda level: level.kind)
    groups: list[Group] = []
    rows: list[tuple[int, ...]] = []
    partials = 0
    for _, members in itertools.groupby(known, key=lambda level: level.kind):
        group = list(members)
        bc, br = _tile(group)
        first, programs, chunk = len(rows), 0, max(br * TILES_PER_PROGRAM, 16)
        for level in group:
            batches, channels, length = level.shape
            slots = batches * -(-length // chunk)
            rows.append((*itertools.chain(*level.strides), level.number, channels, length, slots, chunk,
                         columns[level.number], partials, programs))
            partials += slots * channels
            programs += slots * -(-channels // bc)
        align = min(level.align for level in group)
        groups.append(Group(first, len(group), programs, group[0].types, group[0].along,
                            align if align >= WIDE else 1, (bc, br)))
    return Layout(tuple(groups), tuple(level.number for level in known), tuple(rows), partials)


def _level(number: int, shape: tuple[int, int, int], strides: tuple[tuple[int, int, int], ...],
           types: tuple[torch.dtype, ...], aligned: bool) -> _Level:
    batches, channels, length = shape
    if all(batches == 1 or length == 1 or n == length * row for n, _, row in strides):
        # Rows of all batch elements are equally far apart (channels last, vectors): one long batch element.
        strides = tuple((0, channel, row if length > 1 else n) for n, channel, row in strides)
        batches, length = 1, batches * length
    level = _Level(number, (batches, channels, length), strides, types, 1)
    multiples = [stride for own in strides for stride in own if stride not in (0, 1)]
    multiples += [size for size, along in ((channels, 'channels'), (length, 'rows')) if along in level.along and size]
    align = min(VECTOR // min(x.itemsize for x in types), *(n & -n for n in multiples), VECTOR)
    return level._replace(align=align if aligned else 1)


def _tile(group: Sequence[_Level]) -> tuple[int, int]:
    """Channels and rows of a tile; powers of two."""
    channels, rows = (_power_of_two(max(level.shape[i] for level in group)) for i in (1, 2))
    if 'channels' in group[0].along:  # 64 neighbouring channels fill a cache line
        bc = min(64, channels)
        return bc, min(TILE // bc, rows)
    br = min(1024, rows)
    return min(TILE // br, channels), br


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


class LevelTable:
    """The table of some levels.

    Args:
        features: Levels of the student, of the teacher and, in the backward pass, of the gradients. Crops are not
            accepted (:func:`shape_and_strides`).

    Attributes:
        layout: Order and launches of the levels.
        tensor: The table (levels, columns), int64, on their device.
        group_rows: The table from the first row of each group on.
    """

    def __init__(self, *features: Sequence[Tensor]) -> None:
        keys, addresses = [], []
        for level in zip(*features):
            shapes, strides = zip(*filter(None, map(shape_and_strides, level)))
            assert len(strides) == len(level), 'the backend copies crops'
            pointers = tuple([x.data_ptr() for x in level])
            aligned = not any(pointer % VECTOR for pointer in pointers)
            keys.append((shapes[0], strides, (level[0].dtype, level[1].dtype), aligned))
            addresses.append(pointers)
        self.layout = make_layout(tuple(keys))
        device = features[0][0].device
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == 'cuda' else 0
        self.tensor, *self.group_rows = _upload(self.layout, tuple(addresses), device, stream)


@functools.lru_cache(maxsize=64)  # memory that is freed and taken in turns has few addresses
def _upload(layout: Layout, addresses: tuple[tuple[int, ...], ...], device: torch.device,
            stream: int) -> list[Tensor]:
    """Return the table on the device, and its groups.

    Nothing waits for the copy, so another stream could find it not yet there.
    """
    sides = len(addresses[0])
    missing = (0,) * (3 - sides)
    host = torch.tensor([(*addresses[level], *missing, *row[:3 * sides], *missing * 3, *row[3 * sides:])
                         for level, row in zip(layout.order, layout.rows)], device='cpu')
    table = host.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else host
    return [table, *(table[group.first:] for group in layout.groups)]
