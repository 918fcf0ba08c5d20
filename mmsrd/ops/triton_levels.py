"""Functions of Triton kernels over several levels: which part of which level a program handles, and where it is."""
from __future__ import annotations

import triton
import triton.language as tl

from .level_table import COLUMNS

WIDTH = tl.constexpr(len(COLUMNS))
(A, B, OUT, A_STRIDES, B_STRIDES, OUT_STRIDES, LEVEL, CHANNELS, LENGTH, SLOTS, CHUNK, COLUMN, PARTIAL, FIRST) = (
    tl.constexpr(COLUMNS.index(name)) for name in (
        'a', 'b', 'out', 'an', 'bn', 'on', 'level', 'channels', 'length', 'slots', 'chunk', 'column', 'partial',
        'first'))


@triton.jit
def part_of_program(table, levels, A_ALONG: tl.constexpr, B_ALONG: tl.constexpr, ALIGN: tl.constexpr, BC: tl.constexpr):
    """What this program handles: row of the table, slot, batch element, rows from first to before last, channels,
    which of them exist, and their number."""
    program = tl.program_id(0)
    level = 0
    for i in range(1, levels):
        level += (tl.load(table + i * WIDTH + FIRST) <= program).to(tl.int32)
    row = table + level * WIDTH
    program -= tl.load(row + FIRST).to(tl.int32)
    slots = tl.load(row + SLOTS).to(tl.int32)
    length = tl.load(row + LENGTH).to(tl.int32)
    channels = tl.load(row + CHANNELS).to(tl.int32)
    # Without these the compiler could not know that masks are equal for neighbours, and would load them one by one.
    size = tl.multiple_of(tl.load(row + CHUNK).to(tl.int32), 16)
    if ALIGN > 1:
        if A_ALONG == 'rows' or B_ALONG == 'rows':
            length = tl.multiple_of(length, ALIGN)
        if A_ALONG == 'channels' or B_ALONG == 'channels':
            channels = tl.multiple_of(channels, ALIGN)
    chunks = tl.cdiv(length, size)
    slot = program % slots
    first = (slot % chunks) * size
    last = tl.minimum(first + size, length)
    channel = (program // slots) * BC + tl.arange(0, BC)
    return row, slot, slot // chunks, first, last, channel, channel < channels, channels


@triton.jit
def feature_of(row, NUMBER: tl.constexpr, STRIDES: tl.constexpr, TYPE: tl.constexpr, ALONG: tl.constexpr,
             ALIGN: tl.constexpr):
    """Address and strides (batch, channel, row); along which of them neighbours lie, the compiler has to know."""
    address = tl.load(row + NUMBER)
    if TYPE == 'fp32':  # until Triton 3.1 a pointer's type cannot be made from a constant of the kernel
        pointer = address.to(tl.pointer_type(tl.float32))
    elif TYPE == 'bf16':
        pointer = address.to(tl.pointer_type(tl.bfloat16))
    elif TYPE == 'fp16':
        pointer = address.to(tl.pointer_type(tl.float16))
    else:
        pointer = address.to(tl.pointer_type(tl.float64))
    stride_n = tl.load(row + STRIDES)
    stride_c = tl.load(row + STRIDES + 1)
    stride_l = tl.load(row + STRIDES + 2)
    if ALIGN > 1:
        pointer = tl.multiple_of(pointer, 16)
        stride_n = tl.multiple_of(stride_n, ALIGN)
        stride_c = tl.multiple_of(stride_c, ALIGN)
        stride_l = tl.multiple_of(stride_l, ALIGN)
    if ALONG == 'rows':
        stride_l = tl.full((), 1, tl.int64)
    elif ALONG == 'channels':
        stride_c = tl.full((), 1, tl.int64)
    return pointer, stride_n, stride_c, stride_l


@triton.jit
def places(batch, channel, row, stride_n, stride_c, stride_l):
    rows = batch.to(tl.int64) * stride_n + row.to(tl.int64) * stride_l
    return (channel.to(tl.int64) * stride_c)[:, None] + rows[None, :]


@triton.jit
def no_moments(BC: tl.constexpr, TYPE: tl.constexpr):
    """Means of a and b, centred squares and product of no rows."""
    zero = tl.zeros([BC], TYPE)
    return zero, zero, zero, zero, zero


@triton.jit
def joined_moments(seen, mean_a, mean_b, aa, bb, ab, here, own_a, own_b, own_aa, own_bb, own_ab):
    """Moments of ``seen`` and of ``here`` more rows together, and their number (Chan et al. 1979)."""
    total = seen + here
    part = tl.where(here > 0, here / total, 0.0)
    share = seen * part
    away_a = own_a - mean_a
    away_b = own_b - mean_b
    aa += own_aa + away_a * away_a * share
    bb += own_bb + away_b * away_b * share
    ab += own_ab + away_a * away_b * share
    return total, mean_a + away_a * part, mean_b + away_b * part, aa, bb, ab


@triton.jit
def load_pilot(pointer, channel, stride_c, within):
    return tl.load(pointer + channel.to(tl.int64) * stride_c, mask=within, other=0.0).to(tl.float32)
