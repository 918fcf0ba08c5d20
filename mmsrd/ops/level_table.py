"""What kernels over several levels at once have to know of each: a row of integers on the device."""
from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple, Sequence

import torch
from torch import Tensor

from .base_backend import channel_view

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
        along: For student, teacher and gradient: ``'rows'`` or ``'channels'`` where neighbours lie, or ``'none'``.
        align: All other strides, and the number of neighbours, are multiples of it; 1 where an address is not one of
            16 bytes.
        tile: Channels and rows of a tile.
    """

    first: int
    levels: int
    programs: int
    types: tuple[torch.dtype, ...]
    along: tuple[str, ...]
    align: int
    tile: tuple[int, int]


class Layout(NamedTuple):
    """How the levels are handled.

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


def views_of(features: Sequence[Tensor]) -> list[Tensor]:
    """Features without gradient as (N, C, L); copies of those whose rows are not equally far apart (a crop)."""
    views = []
    for x in features:
        view = channel_view(x.detach())
        views.append(view if view.data_ptr() == x.data_ptr() else channel_view(x.detach().contiguous()))
    return views


@functools.lru_cache(maxsize=256)  # multi-scale training has some dozens of image sizes
def layout_of(levels: tuple[tuple[Any, ...], ...]) -> Layout:
    """How levels are handled, each given by shape (N, C, L), strides of its features, their dtypes, and whether all
    addresses are multiples of 16 bytes."""
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
        features: For each of student, teacher, and where it is to be written gradient: the levels as :func:`views_of`
            gives them.

    Attributes:
        layout: How they are handled.
        tensor: The table (levels, columns), int64, on their device.
    """

    def __init__(self, *features: Sequence[Tensor]) -> None:
        levels = list(zip(*features))
        self.layout = layout_of(tuple(
            (tuple(own[0].shape), tuple(x.stride() for x in own), tuple(x.dtype for x in own[:2]),
             not any(x.data_ptr() % VECTOR for x in own)) for own in levels))
        missing = (0,) * (3 - len(features))
        values = []
        for level, row in zip(self.layout.order, self.layout.rows):
            strides = 3 * len(features)
            values.append((*(x.data_ptr() for x in levels[level]), *missing,
                           *row[:strides], *missing * 3, *row[strides:]))
        device = features[0][0].device
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == 'cuda' else 0
        self.tensor = _upload(tuple(values), device, stream)


@functools.lru_cache(maxsize=64)  # memory that is freed and taken in turns has few addresses
def _upload(values: tuple[tuple[int, ...], ...], device: torch.device, stream: int) -> Tensor:
    """The table on the device, without waiting for it; what another stream has copied may not have arrived."""
    host = torch.tensor(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else host
