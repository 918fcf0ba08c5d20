"""Triton kernels that read the features, seen as (batch, channels, rows) with any strides, of several levels at once.

A program handles BC channels of a chunk of rows of one batch element of one level, in tiles of BC × BR. What differs
from level to level (addresses, strides, sizes) is in a table on the device, so that other image sizes need no other
kernels; see :mod:`mmsrd.ops.level_table`. Partial results go to one slot for each (batch, chunk), so that sums do not
depend on the order in which programs run. Values are differences to the channel's first row (``pilot``): exact for
constant channels, and without loss for means that are large against the deviation.
"""
from __future__ import annotations

import triton
import triton.language as tl

from .triton_levels import (
    A_STRIDES,
    B_STRIDES,
    COLUMN,
    OUT,
    OUT_STRIDES,
    PARTIAL,
    A,
    B,
    feature_of,
    joined_moments,
    load_pilot,
    no_moments,
    part_of_program,
    places,
)


@triton.jit(do_not_specialize=['levels'])
def moments_kernel(
        table, partial, levels,
        A_TYPE: tl.constexpr, A_ALONG: tl.constexpr, B_TYPE: tl.constexpr, B_ALONG: tl.constexpr,
        ALIGN: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr):
    """Per slot and channel: means less the pilots, centred squares, product, pilots: partial (slots, 7, C), float32."""
    level, slot, batch, first, last, channel, within, channels = part_of_program(
        table, levels, A_ALONG, B_ALONG, ALIGN, BC)
    a, an, ac, al = feature_of(level, A, A_STRIDES, A_TYPE, A_ALONG, ALIGN)
    b, bn, bc, bl = feature_of(level, B, B_STRIDES, B_TYPE, B_ALONG, ALIGN)
    pilot_a = load_pilot(a, channel, ac, within)
    pilot_b = load_pilot(b, channel, bc, within)
    mean_a, mean_b, aa, bb, ab = no_moments(BC, tl.float32)
    seen = 0.0
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        x = tl.load(a + places(batch, channel, row, an, ac, al), mask=inside, other=0.0).to(tl.float32)
        y = tl.load(b + places(batch, channel, row, bn, bc, bl), mask=inside, other=0.0).to(tl.float32)
        x = tl.where(inside, x - pilot_a[:, None], 0.0)
        y = tl.where(inside, y - pilot_b[:, None], 0.0)
        here = tl.minimum(last - start, BR).to(tl.float32)
        own_a = tl.sum(x, 1) / here
        own_b = tl.sum(y, 1) / here
        x = tl.where(inside, x - own_a[:, None], 0.0)
        y = tl.where(inside, y - own_b[:, None], 0.0)
        seen, mean_a, mean_b, aa, bb, ab = joined_moments(
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
def _standard(pointer, mean, scale, column, channel, within, stride_c):
    """How to standardise channels: pilot, rest of the mean, factor. Taking the mean away in two steps loses nothing."""
    pilot = load_pilot(pointer, channel, stride_c, within)
    rest = (tl.load(mean + column, mask=within, other=0.0) - pilot.to(tl.float64)).to(tl.float32)
    return pilot[:, None], rest[:, None], tl.load(scale + column, mask=within, other=0.0).to(tl.float32)[:, None]


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


@triton.jit(do_not_specialize=['levels', 'width'])
def powers_kernel(
        table, mean, scale, partial, levels, width,
        A_TYPE: tl.constexpr, A_ALONG: tl.constexpr, B_TYPE: tl.constexpr, B_ALONG: tl.constexpr,
        ALIGN: tl.constexpr, ALPHA: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr):
    """Per slot and channel: sums of ``h * d``, ``h``, ``h * z``: partial (slots, 3, C), float32."""
    level, slot, batch, first, last, channel, within, channels = part_of_program(
        table, levels, A_ALONG, B_ALONG, ALIGN, BC)
    column = tl.load(level + COLUMN).to(tl.int32) + channel
    a, an, ac, al = feature_of(level, A, A_STRIDES, A_TYPE, A_ALONG, ALIGN)
    b, bn, bc, bl = feature_of(level, B, B_STRIDES, B_TYPE, B_ALONG, ALIGN)
    pilot_a, rest_a, factor_a = _standard(a, mean, scale, column, channel, within, ac)
    pilot_b, rest_b, factor_b = _standard(b, mean, scale, column + width, channel, within, bc)
    hd = tl.zeros([BC], tl.float32)
    hs = tl.zeros([BC], tl.float32)
    hz = tl.zeros([BC], tl.float32)
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        z = _standardised(a, places(batch, channel, row, an, ac, al), inside, pilot_a, rest_a, factor_a)
        t = _standardised(b, places(batch, channel, row, bn, bc, bl), inside, pilot_b, rest_b, factor_b)
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
    """``upstream * c0 * (h - c1 - z * c2)``, in shape and dtype of the student; t for h in the correlation form."""
    level, _slot, batch, first, last, channel, within, _channels = part_of_program(
        table, levels, A_ALONG, B_ALONG, ALIGN, BC)
    column = tl.load(level + COLUMN).to(tl.int32) + channel
    a, an, ac, al = feature_of(level, A, A_STRIDES, A_TYPE, A_ALONG, ALIGN)
    b, bn, bc, bl = feature_of(level, B, B_STRIDES, B_TYPE, B_ALONG, ALIGN)
    out, on, oc, ol = feature_of(level, OUT, OUT_STRIDES, A_TYPE, OUT_ALONG, ALIGN)
    pilot_a, rest_a, factor_a = _standard(a, mean, scale, column, channel, within, ac)
    pilot_b, rest_b, factor_b = _standard(b, mean, scale, column + width, channel, within, bc)
    c0 = tl.load(coefficients + column, mask=within, other=0.0) * tl.load(upstream).to(tl.float64)
    c0 = c0.to(tl.float32)[:, None]
    c1 = tl.load(coefficients + width + column, mask=within, other=0.0).to(tl.float32)[:, None]
    c2 = tl.load(coefficients + 2 * width + column, mask=within, other=0.0).to(tl.float32)[:, None]
    for start in range(first, last, BR):
        row = start + tl.arange(0, BR)
        inside = within[:, None] & (row < last)[None, :]
        z = _standardised(a, places(batch, channel, row, an, ac, al), inside, pilot_a, rest_a, factor_a)
        t = _standardised(b, places(batch, channel, row, bn, bc, bl), inside, pilot_b, rest_b, factor_b)
        if CORRELATION:
            h = t
        else:
            h = _signed_power(z - t, ALPHA)
        grad = c0 * (h - c1 - z * c2)
        tl.store(out + places(batch, channel, row, on, oc, ol), grad.to(out.dtype.element_ty), mask=inside)
