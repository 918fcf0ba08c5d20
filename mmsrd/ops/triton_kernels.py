"""Triton kernels over features seen as (batch, channels, rows) with any strides.

A program handles BC channels of a chunk of CHUNK rows of one batch element, in tiles of BC × BR. ``grid = (batch ·
chunks, channel blocks)``, as the second axis ends at 65,535. Partial results go to one slot for each (batch, chunk), so
that sums do not depend on the order in which programs run. Values are differences to the channel's first row
(``pilot``): exact for constant channels, and without loss for means that are large against the deviation.
"""
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _program(channels, length, chunks, BC: tl.constexpr, CHUNK: tl.constexpr):
    """What this program handles: slot, batch element, rows from first to before last, channels, which of them exist."""
    slot = tl.program_id(0)
    first = (slot % chunks) * CHUNK
    channel = tl.program_id(1) * BC + tl.arange(0, BC)
    return slot, slot // chunks, first, tl.minimum(first + CHUNK, length), channel, channel < channels


@triton.jit
def _place(batch, channel, row, stride_n, stride_c, stride_l):
    rows = batch.to(tl.int64) * stride_n + row.to(tl.int64) * stride_l
    return channel.to(tl.int64)[:, None] * stride_c + rows[None, :]


@triton.jit
def _pilot(pointer, channel, stride_c, within):
    return tl.load(pointer + channel.to(tl.int64) * stride_c, mask=within, other=0.0).to(tl.float32)


@triton.jit
def moments_kernel(
        a, b, out, channels, length, chunks, an, ac, al, bn, bc, bl,
        BC: tl.constexpr, BR: tl.constexpr, CHUNK: tl.constexpr):
    """Per slot and channel: means less the pilots, centred squares and product: out (slots, 5, C), float32."""
    slot, batch, first, last, channel, within = _program(channels, length, chunks, BC, CHUNK)
    pilot_a = _pilot(a, channel, ac, within)[:, None]
    pilot_b = _pilot(b, channel, bc, within)[:, None]
    mean_a = tl.zeros([BC], tl.float32)
    mean_b = tl.zeros([BC], tl.float32)
    aa = tl.zeros([BC], tl.float32)
    bb = tl.zeros([BC], tl.float32)
    ab = tl.zeros([BC], tl.float32)
    seen = 0.0
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        x = tl.load(a + _place(batch, channel, row, an, ac, al), mask=inside, other=0.0).to(tl.float32) - pilot_a
        y = tl.load(b + _place(batch, channel, row, bn, bc, bl), mask=inside, other=0.0).to(tl.float32) - pilot_b
        x = tl.where(inside, x, 0.0)
        y = tl.where(inside, y, 0.0)
        here = tl.minimum(last - start, BR).to(tl.float32)
        total = seen + here
        own_a = tl.sum(x, 1) / here
        own_b = tl.sum(y, 1) / here
        x = tl.where(inside, x - own_a[:, None], 0.0)
        y = tl.where(inside, y - own_b[:, None], 0.0)
        away_a = own_a - mean_a
        away_b = own_b - mean_b
        share = seen * here / total  # Chan et al. 1979
        aa += tl.sum(x * x, 1) + away_a * away_a * share
        bb += tl.sum(y * y, 1) + away_b * away_b * share
        ab += tl.sum(x * y, 1) + away_a * away_b * share
        mean_a += away_a * (here / total)
        mean_b += away_b * (here / total)
        seen = total
    base = out + slot * 5 * channels + channel
    tl.store(base, mean_a, mask=within)
    tl.store(base + channels, mean_b, mask=within)
    tl.store(base + 2 * channels, aa, mask=within)
    tl.store(base + 3 * channels, bb, mask=within)
    tl.store(base + 4 * channels, ab, mask=within)


@triton.jit
def combine_kernel(
        a, b, partial, out, channels, length, chunks, slots, ac, bc,
        BC: tl.constexpr, BS: tl.constexpr, CHUNK: tl.constexpr):
    """Moments of all slots together, BS of them at a time: out (5, C), float64, means with the pilots."""
    channel = tl.program_id(0) * BC + tl.arange(0, BC)
    within = channel < channels
    mean_a = tl.zeros([BC], tl.float64)
    mean_b = tl.zeros([BC], tl.float64)
    aa = tl.zeros([BC], tl.float64)
    bb = tl.zeros([BC], tl.float64)
    ab = tl.zeros([BC], tl.float64)
    seen = tl.zeros([1], tl.float64)
    for first in range(0, slots, BS):
        slot = first + tl.arange(0, BS)
        inside = (slot < slots)[:, None] & within[None, :]
        base = partial + slot[:, None] * 5 * channels + channel[None, :]
        rows = tl.where(slot < slots, tl.minimum(length - (slot % chunks) * CHUNK, CHUNK), 0).to(tl.float64)[:, None]
        here = tl.sum(rows, 0)
        total = seen + here
        share = seen * here / total
        x = tl.load(base, mask=inside, other=0.0).to(tl.float64)
        y = tl.load(base + channels, mask=inside, other=0.0).to(tl.float64)
        own_a = tl.sum(x * rows, 0) / here
        own_b = tl.sum(y * rows, 0) / here
        x -= own_a[None, :]
        y -= own_b[None, :]
        away_a = own_a - mean_a
        away_b = own_b - mean_b
        aa += tl.sum(tl.load(base + 2 * channels, mask=inside, other=0.0) + x * x * rows, 0) + away_a * away_a * share
        bb += tl.sum(tl.load(base + 3 * channels, mask=inside, other=0.0) + y * y * rows, 0) + away_b * away_b * share
        ab += tl.sum(tl.load(base + 4 * channels, mask=inside, other=0.0) + x * y * rows, 0) + away_a * away_b * share
        mean_a += away_a * here / total
        mean_b += away_b * here / total
        seen = total
    tl.store(out + channel, mean_a + _pilot(a, channel, ac, within).to(tl.float64), mask=within)
    tl.store(out + channels + channel, mean_b + _pilot(b, channel, bc, within).to(tl.float64), mask=within)
    tl.store(out + 2 * channels + channel, aa, mask=within)
    tl.store(out + 3 * channels + channel, bb, mask=within)
    tl.store(out + 4 * channels + channel, ab, mask=within)


@triton.jit
def _standard(pointer, mean, scale, channel, within, stride_c):
    """How to standardise channels: pilot, rest of the mean, factor. Taking the mean away in two steps loses nothing."""
    pilot = _pilot(pointer, channel, stride_c, within)
    rest = (tl.load(mean + channel, mask=within, other=0.0) - pilot.to(tl.float64)).to(tl.float32)
    return pilot[:, None], rest[:, None], tl.load(scale + channel, mask=within, other=0.0).to(tl.float32)[:, None]


@triton.jit
def _standardised(pointer, places, inside, pilot, rest, factor):
    x = tl.load(pointer + places, mask=inside, other=0.0).to(tl.float32)
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


@triton.jit
def powers_kernel(
        a, b, mean, scale, out, channels, length, chunks, an, ac, al, bn, bc, bl,
        ALPHA: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr, CHUNK: tl.constexpr):
    """Per slot and channel: sums of ``h * d``, ``h``, ``h * z``: out (slots, 3, C), float32."""
    slot, batch, first, last, channel, within = _program(channels, length, chunks, BC, CHUNK)
    pilot_a, rest_a, factor_a = _standard(a, mean, scale, channel, within, ac)
    pilot_b, rest_b, factor_b = _standard(b, mean + channels, scale + channels, channel, within, bc)
    hd = tl.zeros([BC], tl.float32)
    hs = tl.zeros([BC], tl.float32)
    hz = tl.zeros([BC], tl.float32)
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        z = _standardised(a, _place(batch, channel, row, an, ac, al), inside, pilot_a, rest_a, factor_a)
        t = _standardised(b, _place(batch, channel, row, bn, bc, bl), inside, pilot_b, rest_b, factor_b)
        h = _signed_power(z - t, ALPHA)
        hd += tl.sum(h * (z - t), 1)
        hs += tl.sum(h, 1)
        hz += tl.sum(h * z, 1)
    base = out + slot * 3 * channels + channel
    tl.store(base, hd, mask=within)
    tl.store(base + channels, hs, mask=within)
    tl.store(base + 2 * channels, hz, mask=within)


@triton.jit
def gradient_kernel(
        a, b, mean, scale, coefficients, out, channels, length, chunks,
        an, ac, al, bn, bc, bl, on, oc, ol,
        ALPHA: tl.constexpr, CORRELATION: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr, CHUNK: tl.constexpr):
    """``c0 * (h - c1 - z * c2)`` into out, which has the student's shape; t in place of h in the correlation form."""
    _slot, batch, first, last, channel, within = _program(channels, length, chunks, BC, CHUNK)
    pilot_a, rest_a, factor_a = _standard(a, mean, scale, channel, within, ac)
    pilot_b, rest_b, factor_b = _standard(b, mean + channels, scale + channels, channel, within, bc)
    c0 = tl.load(coefficients + channel, mask=within, other=0.0).to(tl.float32)[:, None]
    c1 = tl.load(coefficients + channels + channel, mask=within, other=0.0).to(tl.float32)[:, None]
    c2 = tl.load(coefficients + 2 * channels + channel, mask=within, other=0.0).to(tl.float32)[:, None]
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        z = _standardised(a, _place(batch, channel, row, an, ac, al), inside, pilot_a, rest_a, factor_a)
        t = _standardised(b, _place(batch, channel, row, bn, bc, bl), inside, pilot_b, rest_b, factor_b)
        if CORRELATION:
            h = t
        else:
            h = _signed_power(z - t, ALPHA)
        grad = c0 * (h - c1 - z * c2)
        tl.store(out + _place(batch, channel, row, on, oc, ol), grad.to(out.dtype.element_ty), mask=inside)
