"""Triton kernels of the SRD loss, over several levels at once: three passes over the features, and what is between.

The passes see features as (batch, channels, rows) with any strides. A program handles BC channels of a chunk of rows of
one batch element of one level, in tiles of BC × BR. What differs from level to level (addresses, strides, sizes) is in
a table on the device, so that other image sizes need no other kernels; see :mod:`mmsrd.ops.triton_level_table`. Partial
results go to one slot for each (batch, chunk), so that sums do not depend on the order in which programs run. Values
are differences to the channel's first row (``pilot``): exact for constant channels, and without loss for means that
are large against the deviation.

The kernels between the passes compute with numbers per channel of all levels, in T columns (``width``), in float64:
what :class:`mmsrd.ops.torch_backend.TorchBackend` does in some dozens of launches.
"""
from __future__ import annotations

import triton
import triton.language as tl

from .triton_level_table import COLUMNS

WIDTH = tl.constexpr(len(COLUMNS))
(A, B, OUT, A_STRIDES, B_STRIDES, OUT_STRIDES, LEVEL, CHANNELS, LENGTH, SLOTS, CHUNK, COLUMN, PARTIAL, FIRST) = (
    tl.constexpr(COLUMNS.index(name)) for name in (
        'a', 'b', 'out', 'an', 'bn', 'on', 'level', 'channels', 'length', 'slots', 'chunk', 'column', 'partial',
        'first'))


@triton.jit
def program_part(table, levels, A_ALONG: tl.constexpr, B_ALONG: tl.constexpr, ALIGN: tl.constexpr, BC: tl.constexpr):
    """Return the part of a level that this program handles: row of the table, slot, batch element, rows from first to
    before last, channels, which of them exist, and their number."""
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
def load_feature(row, NUMBER: tl.constexpr, STRIDES: tl.constexpr, TYPE: tl.constexpr, ALONG: tl.constexpr,
             ALIGN: tl.constexpr):
    """Return address and strides (batch, channel, row) of a feature; the compiler has to know along which of them
    neighbours lie."""
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
def feature_offsets(batch, channel, row, stride_n, stride_c, stride_l):
    rows = batch.to(tl.int64) * stride_n + row.to(tl.int64) * stride_l
    return (channel.to(tl.int64) * stride_c)[:, None] + rows[None, :]


@triton.jit
def zero_moments(BC: tl.constexpr, TYPE: tl.constexpr):
    """Return means of a and b, centred squares and product of no rows."""
    zero = tl.zeros([BC], TYPE)
    return zero, zero, zero, zero, zero


@triton.jit
def merge_moments(seen, mean_a, mean_b, aa, bb, ab, here, own_a, own_b, own_aa, own_bb, own_ab):
    """Return the moments of ``seen`` and of ``here`` more rows together, and their number (Chan et al. 1979)."""
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


@triton.jit(do_not_specialize=['levels'])
def moments_kernel(
        table, partial, levels,
        A_TYPE: tl.constexpr, A_ALONG: tl.constexpr, B_TYPE: tl.constexpr, B_ALONG: tl.constexpr,
        ALIGN: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr):
    """Store means less the pilots, centred squares, product and pilots: partial (slots, 7, C), float32."""
    level, slot, batch, first, last, channel, within, channels = program_part(
        table, levels, A_ALONG, B_ALONG, ALIGN, BC)
    a, an, ac, al = load_feature(level, A, A_STRIDES, A_TYPE, A_ALONG, ALIGN)
    b, bn, bc, bl = load_feature(level, B, B_STRIDES, B_TYPE, B_ALONG, ALIGN)
    pilot_a = load_pilot(a, channel, ac, within)
    pilot_b = load_pilot(b, channel, bc, within)
    mean_a, mean_b, aa, bb, ab = zero_moments(BC, tl.float32)
    seen = 0.0
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        x = tl.load(a + feature_offsets(batch, channel, row, an, ac, al), mask=inside, other=0.0).to(tl.float32)
        y = tl.load(b + feature_offsets(batch, channel, row, bn, bc, bl), mask=inside, other=0.0).to(tl.float32)
        x = tl.where(inside, x - pilot_a[:, None], 0.0)
        y = tl.where(inside, y - pilot_b[:, None], 0.0)
        here = tl.minimum(last - start, BR).to(tl.float32)
        own_a = tl.sum(x, 1) / here
        own_b = tl.sum(y, 1) / here
        x = tl.where(inside, x - own_a[:, None], 0.0)
        y = tl.where(inside, y - own_b[:, None], 0.0)
        seen, mean_a, mean_b, aa, bb, ab = merge_moments(
            seen, mean_a, mean_b, aa, bb, ab, here, own_a, own_b, tl.sum(x * x, 1), tl.sum(y * y, 1), tl.sum(x * y, 1))
    base = partial + tl.load(level + PARTIAL) * 7 + slot.to(tl.int64) * 7 * channels + channel
    tl.store(base, mean_a, mask=within)
    tl.store(base + channels, mean_b, mask=within)
    tl.store(base + 2 * channels, aa, mask=within)
    tl.store(base + 3 * channels, bb, mask=within)
    tl.store(base + 4 * channels, ab, mask=within)
    tl.store(base + 5 * channels, pilot_a, mask=within)
    tl.store(base + 6 * channels, pilot_b, mask=within)


@triton.jit
def _load_statistics(pointer, mean, scale, column, channel, within, stride_c):
    """Return pilot, rest of the mean, and factor of channels. Taking the mean away in two steps loses nothing."""
    pilot = load_pilot(pointer, channel, stride_c, within)
    rest = (tl.load(mean + column, mask=within, other=0.0) - pilot.to(tl.float64)).to(tl.float32)
    return pilot[:, None], rest[:, None], tl.load(scale + column, mask=within, other=0.0).to(tl.float32)[:, None]


@triton.jit
def _load_standardized(pointer, offsets, inside, pilot, rest, factor):
    x = tl.load(pointer + offsets, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, ((x - pilot) - rest) * factor, 0.0)


@triton.jit
def _signed_power(d, ALPHA: tl.constexpr):
    """``|d| ** (ALPHA - 1) * sign(d)``."""
    if ALPHA == 4:
        return d * d * d
    elif ALPHA == 2:
        return d
    sign = tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0))
    if ALPHA == 1:
        return sign
    size = tl.where(d == 0, 1.0, tl.abs(d))
    return sign * tl.exp2((ALPHA - 1) * tl.log2(size))


@triton.jit(do_not_specialize=['levels', 'width'])
def powers_kernel(
        table, mean, scale, partial, levels, width,
        A_TYPE: tl.constexpr, A_ALONG: tl.constexpr, B_TYPE: tl.constexpr, B_ALONG: tl.constexpr,
        ALIGN: tl.constexpr, ALPHA: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr):
    """Store sums of ``h * d``, ``h``, ``h * z``: partial (slots, 3, C), float32."""
    level, slot, batch, first, last, channel, within, channels = program_part(
        table, levels, A_ALONG, B_ALONG, ALIGN, BC)
    column = tl.load(level + COLUMN).to(tl.int32) + channel
    a, an, ac, al = load_feature(level, A, A_STRIDES, A_TYPE, A_ALONG, ALIGN)
    b, bn, bc, bl = load_feature(level, B, B_STRIDES, B_TYPE, B_ALONG, ALIGN)
    pilot_a, rest_a, factor_a = _load_statistics(a, mean, scale, column, channel, within, ac)
    pilot_b, rest_b, factor_b = _load_statistics(b, mean, scale, column + width, channel, within, bc)
    hd = tl.zeros([BC], tl.float32)
    hs = tl.zeros([BC], tl.float32)
    hz = tl.zeros([BC], tl.float32)
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        z = _load_standardized(a, feature_offsets(batch, channel, row, an, ac, al), inside, pilot_a, rest_a, factor_a)
        t = _load_standardized(b, feature_offsets(batch, channel, row, bn, bc, bl), inside, pilot_b, rest_b, factor_b)
        h = _signed_power(z - t, ALPHA)
        hd += tl.sum(h * (z - t), 1)
        hs += tl.sum(h, 1)
        hz += tl.sum(h * z, 1)
    base = partial + tl.load(level + PARTIAL) * 3 + slot.to(tl.int64) * 3 * channels + channel
    tl.store(base, hd, mask=within)
    tl.store(base + channels, hs, mask=within)
    tl.store(base + 2 * channels, hz, mask=within)


@triton.jit(do_not_specialize=['levels', 'width'])
def gradient_kernel(
        table, mean, scale, coefficients, upstream, levels, width,
        A_TYPE: tl.constexpr, A_ALONG: tl.constexpr, B_TYPE: tl.constexpr, B_ALONG: tl.constexpr,
        OUT_ALONG: tl.constexpr, ALIGN: tl.constexpr, ALPHA: tl.constexpr, CORRELATION: tl.constexpr,
        BC: tl.constexpr, BR: tl.constexpr):
    """Store ``upstream * c0 * (h - c1 - z * c2)``, with t for h in the correlation form, in dtype of the student."""
    level, _slot, batch, first, last, channel, within, _channels = program_part(
        table, levels, A_ALONG, B_ALONG, ALIGN, BC)
    column = tl.load(level + COLUMN).to(tl.int32) + channel
    a, an, ac, al = load_feature(level, A, A_STRIDES, A_TYPE, A_ALONG, ALIGN)
    b, bn, bc, bl = load_feature(level, B, B_STRIDES, B_TYPE, B_ALONG, ALIGN)
    out, on, oc, ol = load_feature(level, OUT, OUT_STRIDES, A_TYPE, OUT_ALONG, ALIGN)
    pilot_a, rest_a, factor_a = _load_statistics(a, mean, scale, column, channel, within, ac)
    pilot_b, rest_b, factor_b = _load_statistics(b, mean, scale, column + width, channel, within, bc)
    c0 = tl.load(coefficients + column, mask=within, other=0.0) * tl.load(upstream).to(tl.float64)
    c0 = c0.to(tl.float32)[:, None]
    c1 = tl.load(coefficients + width + column, mask=within, other=0.0).to(tl.float32)[:, None]
    c2 = tl.load(coefficients + 2 * width + column, mask=within, other=0.0).to(tl.float32)[:, None]
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        z = _load_standardized(a, feature_offsets(batch, channel, row, an, ac, al), inside, pilot_a, rest_a, factor_a)
        t = _load_standardized(b, feature_offsets(batch, channel, row, bn, bc, bl), inside, pilot_b, rest_b, factor_b)
        if CORRELATION:
            h = t
        else:
            h = _signed_power(z - t, ALPHA)
        grad = c0 * (h - c1 - z * c2)
        tl.store(out + feature_offsets(batch, channel, row, on, oc, ol), grad.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _columns(row, channel):
    """Return columns of the channels of a level, given by its row of the table; which of them exist; their number."""
    channels = tl.load(row + CHANNELS).to(tl.int32)
    return tl.load(row + COLUMN).to(tl.int32) + channel, channel < channels, channels


@triton.jit
def _row_count_offset(row, width):
    """Return the offset of a level's number of rows, after T columns of five numbers; as a block of one."""
    return 5 * width + tl.load(row + LEVEL).to(tl.int32) + tl.zeros([1], tl.int32)


@triton.jit(do_not_specialize=['width'])
def combine_kernel(table, partial, out, width, BC: tl.constexpr, BS: tl.constexpr):
    """Store the moments of all slots, BS of them at a time: out (5, T), then rows of each level.

    The grid is (C / BC, levels).
    """
    row = table + tl.program_id(1) * WIDTH
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    column, within, channels = _columns(row, channel)
    length = tl.load(row + LENGTH).to(tl.int32)
    slots = tl.load(row + SLOTS).to(tl.int32)
    size = tl.load(row + CHUNK).to(tl.int32)
    chunks = tl.cdiv(length, size)
    base = partial + tl.load(row + PARTIAL) * 7
    mean_a, mean_b, aa, bb, ab = zero_moments(BC, tl.float64)
    seen = tl.zeros([1], tl.float64)
    for first in range(0, slots, BS):
        slot = first + tl.arange(0, BS)
        inside = (slot < slots)[:, None] & within[None, :]
        place = base + slot.to(tl.int64)[:, None] * 7 * channels + channel[None, :]
        rows = tl.where(slot < slots, tl.minimum(length - (slot % chunks) * size, size), 0).to(tl.float64)[:, None]
        here = tl.sum(rows, 0)
        x = tl.load(place, mask=inside, other=0.0).to(tl.float64)
        y = tl.load(place + channels, mask=inside, other=0.0).to(tl.float64)
        own_a = tl.sum(x * rows, 0) / here
        own_b = tl.sum(y * rows, 0) / here
        x -= own_a[None, :]
        y -= own_b[None, :]
        own_aa = tl.sum(tl.load(place + 2 * channels, mask=inside, other=0.0) + x * x * rows, 0)
        own_bb = tl.sum(tl.load(place + 3 * channels, mask=inside, other=0.0) + y * y * rows, 0)
        own_ab = tl.sum(tl.load(place + 4 * channels, mask=inside, other=0.0) + x * y * rows, 0)
        seen, mean_a, mean_b, aa, bb, ab = merge_moments(
            seen, mean_a, mean_b, aa, bb, ab, here, own_a, own_b, own_aa, own_bb, own_ab)
    any_rows = within & (slots > 0)
    pilot_a = tl.load(base + 5 * channels + channel, mask=any_rows, other=0.0).to(tl.float64)
    pilot_b = tl.load(base + 6 * channels + channel, mask=any_rows, other=0.0).to(tl.float64)
    tl.store(out + column, mean_a + pilot_a, mask=within)
    tl.store(out + width + column, mean_b + pilot_b, mask=within)
    tl.store(out + 2 * width + column, aa, mask=within)
    tl.store(out + 3 * width + column, bb, mask=within)
    tl.store(out + 4 * width + column, ab, mask=within)
    count = (slots // tl.maximum(chunks, 1)).to(tl.float64) * length.to(tl.float64)
    tl.store(out + _row_count_offset(row, width), count + tl.zeros([1], tl.float64))


@triton.jit(do_not_specialize=['levels', 'width', 'processes'])
def statistics_kernel(table, gathered, out, width, levels, processes, eps, BC: tl.constexpr):
    """Store statistics of all processes: out (5, T) with means, factors, rho, then rows of each level.

    The grid is (C / BC, levels).
    """
    row = table + tl.program_id(1) * WIDTH
    column, within, _channels = _columns(row, tl.program_id(0) * BC + tl.arange(0, BC))
    mean_a, mean_b, aa, bb, ab = zero_moments(BC, tl.float64)
    seen = tl.zeros([1], tl.float64)
    for process in range(processes):
        base = gathered + process * (5 * width + levels)
        own_a = tl.load(base + column, mask=within, other=0.0)
        own_b = tl.load(base + width + column, mask=within, other=0.0)
        own_aa = tl.load(base + 2 * width + column, mask=within, other=0.0)
        own_bb = tl.load(base + 3 * width + column, mask=within, other=0.0)
        own_ab = tl.load(base + 4 * width + column, mask=within, other=0.0)
        seen, mean_a, mean_b, aa, bb, ab = merge_moments(
            seen, mean_a, mean_b, aa, bb, ab, tl.load(base + _row_count_offset(row, width)), own_a, own_b, own_aa,
            own_bb, own_ab)
    # At eps 0, 0 · ∞ would be NaN for a constant channel.
    rows = tl.maximum(seen, 1.0)
    factor_a = tl.where(aa / rows + eps > 0, 1 / tl.sqrt(aa / rows + eps), 0.0)
    factor_b = tl.where(bb / rows + eps > 0, 1 / tl.sqrt(bb / rows + eps), 0.0)
    tl.store(out + column, mean_a, mask=within)
    tl.store(out + width + column, mean_b, mask=within)
    tl.store(out + 2 * width + column, factor_a, mask=within)
    tl.store(out + 3 * width + column, factor_b, mask=within)
    tl.store(out + 4 * width + column, ab / rows * factor_a * factor_b, mask=within)
    tl.store(out + _row_count_offset(row, width), seen)


@triton.jit(do_not_specialize=['width'])
def sums_kernel(table, partial, out, width, BC: tl.constexpr, BS: tl.constexpr):
    """Store sums over the slots of :func:`powers_kernel`: out (3, T); grid (C / BC, levels)."""
    row = table + tl.program_id(1) * WIDTH
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    column, within, channels = _columns(row, channel)
    slots = tl.load(row + SLOTS).to(tl.int32)
    base = partial + tl.load(row + PARTIAL) * 3
    hd = tl.zeros([BC], tl.float64)
    hs = tl.zeros([BC], tl.float64)
    hz = tl.zeros([BC], tl.float64)
    for first in range(0, slots, BS):
        slot = first + tl.arange(0, BS)
        inside = (slot < slots)[:, None] & within[None, :]
        place = base + slot.to(tl.int64)[:, None] * 3 * channels + channel[None, :]
        hd += tl.sum(tl.load(place, mask=inside, other=0.0).to(tl.float64), 0)
        hs += tl.sum(tl.load(place + channels, mask=inside, other=0.0).to(tl.float64), 0)
        hz += tl.sum(tl.load(place + 2 * channels, mask=inside, other=0.0).to(tl.float64), 0)
    tl.store(out + column, hd, mask=within)
    tl.store(out + width + column, hs, mask=within)
    tl.store(out + 2 * width + column, hz, mask=within)


@triton.jit
def _sum_processes(x, processes, stride, within):
    """Return a number per column, summed over the processes."""
    total = tl.zeros(within.shape, tl.float64)
    for process in range(processes):
        total += tl.load(x + process * stride, mask=within, other=0.0)
    return total


@triton.jit
def _load_correlation(statistics, column, within, width, ALPHA: tl.constexpr):
    """Return rho, and ``|rho - 1| ** (alpha - 1) * sign(rho - 1)``."""
    rho = tl.load(statistics + 4 * width + column, mask=within, other=1.0)
    away = rho - 1
    size = tl.where(away == 0, 1.0, tl.abs(away))
    power = tl.where(away > 0, 1.0, tl.where(away < 0, -1.0, 0.0)) * tl.exp2((ALPHA - 1) * tl.log2(size))
    return rho, power


@triton.jit(do_not_specialize=['levels', 'width', 'processes'])
def terms_kernel(
        table, statistics, gathered, coefficients, out, width, levels, processes, factor,
        ALPHA: tl.constexpr, CORRELATION: tl.constexpr, SUM: tl.constexpr, BC: tl.constexpr, MIN_ROWS: tl.constexpr):
    """Store coefficients (3, T), and out: mean loss of the levels, then alignment of each; one program.

    ``factor`` is alpha times the number of processes that share the loss; ``processes`` those in ``gathered``.
    Levels of fewer than ``MIN_ROWS`` rows count as zero.
    """
    value = tl.zeros([1], tl.float64)
    place = out + tl.zeros([1], tl.int32)
    for number in range(levels):
        row = table + number * WIDTH
        channels = tl.load(row + CHANNELS).to(tl.int32)
        rows = tl.load(statistics + _row_count_offset(row, width))
        count = tl.maximum(rows, 1.0)
        enough = rows >= MIN_ROWS
        inner = tl.zeros([1], tl.float64)
        rhos = tl.zeros([1], tl.float64)
        for first in range(0, channels, BC):
            column, within, _channels = _columns(row, first + tl.arange(0, BC))
            rho, power = _load_correlation(statistics, column, within, width, ALPHA)
            rhos += tl.sum(tl.where(within, rho, 0.0), 0)
            if CORRELATION:
                inner += tl.sum(power * (rho - 1), 0)
            else:
                inner += tl.sum(_sum_processes(gathered + column, processes, 3 * width, within), 0)
        numel = count * channels.to(tl.float64)
        if CORRELATION:
            inner += 1e-5
            rate = factor / (levels * inner * count)
        else:
            inner = inner / numel + 1e-8
            rate = factor / (levels * inner * numel)
        loss = tl.log(inner)
        if SUM:
            loss += tl.log(numel)
        value += tl.where(enough, loss, 0.0) / levels
        tl.store(place + 1 + tl.load(row + LEVEL).to(tl.int32), rhos / channels)
        for first in range(0, channels, BC):
            column, within, _channels = _columns(row, first + tl.arange(0, BC))
            c0 = tl.load(statistics + 2 * width + column, mask=within, other=0.0) * rate
            c1 = tl.zeros([BC], tl.float64)
            rho, power = _load_correlation(statistics, column, within, width, ALPHA)
            if CORRELATION:
                c0 *= power
                c2 = rho
            else:
                sums = gathered + width + column
                c1 = _sum_processes(sums, processes, 3 * width, within) / count
                c2 = _sum_processes(sums + width, processes, 3 * width, within) / count
            tl.store(coefficients + column, tl.where(enough, c0, 0.0), mask=within)
            tl.store(coefficients + width + column, tl.where(enough, c1, 0.0), mask=within)
            tl.store(coefficients + 2 * width + column, tl.where(enough, c2, 0.0), mask=within)
    tl.store(place, value)
