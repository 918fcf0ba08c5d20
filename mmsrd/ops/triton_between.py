"""Triton kernels between the passes: numbers per channel of all levels, in T columns (``width``), in float64.

They compute what :mod:`mmsrd.ops.channel_terms` defines, in a launch each instead of some dozens.
"""
from __future__ import annotations

import triton
import triton.language as tl

from .triton_levels import CHANNELS, CHUNK, COLUMN, LENGTH, LEVEL, PARTIAL, SLOTS, WIDTH, joined_moments, no_moments


@triton.jit
def _columns(row, channel):
    """Columns of the channels of a level, given by its row of the table; which of them exist; number of channels."""
    channels = tl.load(row + CHANNELS).to(tl.int32)
    return tl.load(row + COLUMN).to(tl.int32) + channel, channel < channels, channels


@triton.jit
def _count_of(row, width):
    """Where the number of rows of a level stands, after T columns of five numbers; as a block of one."""
    return 5 * width + tl.load(row + LEVEL).to(tl.int32) + tl.zeros([1], tl.int32)


@triton.jit(do_not_specialize=['width'])
def combine_kernel(table, partial, out, width, BC: tl.constexpr, BS: tl.constexpr):
    """Moments of all slots together, BS of them as a tree: out (5, T), then rows of each level; grid (C / BC, levels).
    """
    row = table + tl.program_id(1) * WIDTH
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    column, within, channels = _columns(row, channel)
    length = tl.load(row + LENGTH).to(tl.int32)
    slots = tl.load(row + SLOTS).to(tl.int32)
    size = tl.load(row + CHUNK).to(tl.int32)
    chunks = tl.cdiv(length, size)
    base = partial + tl.load(row + PARTIAL) * 7
    mean_a, mean_b, aa, bb, ab = no_moments(BC, tl.float64)
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
        seen, mean_a, mean_b, aa, bb, ab = joined_moments(
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
    tl.store(out + _count_of(row, width), count + tl.zeros([1], tl.float64))


@triton.jit(do_not_specialize=['levels', 'width', 'processes'])
def statistics_kernel(table, gathered, out, width, levels, processes, eps, BC: tl.constexpr):
    """Of all processes together: out (5, T) with means, factors, rho, then rows of each level; grid (C / BC, levels).
    """
    row = table + tl.program_id(1) * WIDTH
    column, within, _channels = _columns(row, tl.program_id(0) * BC + tl.arange(0, BC))
    mean_a, mean_b, aa, bb, ab = no_moments(BC, tl.float64)
    seen = tl.zeros([1], tl.float64)
    for process in range(processes):
        base = gathered + process * (5 * width + levels)
        own_a = tl.load(base + column, mask=within, other=0.0)
        own_b = tl.load(base + width + column, mask=within, other=0.0)
        own_aa = tl.load(base + 2 * width + column, mask=within, other=0.0)
        own_bb = tl.load(base + 3 * width + column, mask=within, other=0.0)
        own_ab = tl.load(base + 4 * width + column, mask=within, other=0.0)
        seen, mean_a, mean_b, aa, bb, ab = joined_moments(
            seen, mean_a, mean_b, aa, bb, ab, tl.load(base + _count_of(row, width)), own_a, own_b, own_aa, own_bb,
            own_ab)
    # At eps 0, 0 · ∞ would be NaN for a constant channel.
    rows = tl.maximum(seen, 1.0)
    factor_a = tl.where(aa / rows + eps > 0, 1 / tl.sqrt(aa / rows + eps), 0.0)
    factor_b = tl.where(bb / rows + eps > 0, 1 / tl.sqrt(bb / rows + eps), 0.0)
    tl.store(out + column, mean_a, mask=within)
    tl.store(out + width + column, mean_b, mask=within)
    tl.store(out + 2 * width + column, factor_a, mask=within)
    tl.store(out + 3 * width + column, factor_b, mask=within)
    tl.store(out + 4 * width + column, ab / rows * factor_a * factor_b, mask=within)
    tl.store(out + _count_of(row, width), seen)


@triton.jit(do_not_specialize=['width'])
def sums_kernel(table, partial, out, width, BC: tl.constexpr, BS: tl.constexpr):
    """Sums over the slots of what the pass of powers has found: out (3, T); grid (C / BC, levels)."""
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
def _power_over(x, processes, stride, within):
    """A number per column, summed over the processes."""
    total = tl.zeros(within.shape, tl.float64)
    for process in range(processes):
        total += tl.load(x + process * stride, mask=within, other=0.0)
    return total


@triton.jit
def _correlation(statistics, column, within, width, ALPHA: tl.constexpr):
    """rho, and ``|rho - 1| ** (alpha - 1) * sign(rho - 1)``."""
    rho = tl.load(statistics + 4 * width + column, mask=within, other=1.0)
    away = rho - 1
    size = tl.where(away == 0, 1.0, tl.abs(away))
    power = tl.where(away > 0, 1.0, tl.where(away < 0, -1.0, 0.0)) * tl.exp2((ALPHA - 1) * tl.log2(size))
    return rho, power


@triton.jit(do_not_specialize=['levels', 'width', 'processes'])
def terms_kernel(
        table, statistics, gathered, coefficients, out, width, levels, processes, factor,
        ALPHA: tl.constexpr, CORRELATION: tl.constexpr, SUM: tl.constexpr, BC: tl.constexpr, MIN_ROWS: tl.constexpr):
    """Coefficients (3, T), and out: mean loss of the levels, then alignment of each; one program.

    ``factor`` is alpha times the number of processes that share the loss; ``processes`` those in ``gathered``.
    Levels of fewer than ``MIN_ROWS`` rows count as zero.
    """
    value = tl.zeros([1], tl.float64)
    place = out + tl.zeros([1], tl.int32)
    for number in range(levels):
        row = table + number * WIDTH
        channels = tl.load(row + CHANNELS).to(tl.int32)
        rows = tl.load(statistics + _count_of(row, width))
        count = tl.maximum(rows, 1.0)
        enough = rows >= MIN_ROWS
        inner = tl.zeros([1], tl.float64)
        rhos = tl.zeros([1], tl.float64)
        for first in range(0, channels, BC):
            column, within, _channels = _columns(row, first + tl.arange(0, BC))
            rho, power = _correlation(statistics, column, within, width, ALPHA)
            rhos += tl.sum(tl.where(within, rho, 0.0), 0)
            if CORRELATION:
                inner += tl.sum(power * (rho - 1), 0)
            else:
                inner += tl.sum(_power_over(gathered + column, processes, 3 * width, within), 0)
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
            rho, power = _correlation(statistics, column, within, width, ALPHA)
            if CORRELATION:
                c0 *= power
                c2 = rho
            else:
                sums = gathered + width + column
                c1 = _power_over(sums, processes, 3 * width, within) / count
                c2 = _power_over(sums + width, processes, 3 * width, within) / count
            tl.store(coefficients + column, tl.where(enough, c0, 0.0), mask=within)
            tl.store(coefficients + width + column, tl.where(enough, c1, 0.0), mask=within)
            tl.store(coefficients + 2 * width + column, tl.where(enough, c2, 0.0), mask=within)
    tl.store(place, value)
