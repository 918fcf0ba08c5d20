"""Sigmoid focal loss and its derivative in one Triton kernel, for CUDA tensors of at most 32 bits."""
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def focal_kernel(x, target, weight, out, size, classes, gamma, alpha,
                 WEIGHTED: tl.constexpr, BACKWARD: tl.constexpr, BLOCK: tl.constexpr):
    """Loss of each logit, or its derivative by the logit: out (rows, classes); classes at ``classes`` and beyond are
    background, with weight 1."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    row = place // classes
    own = tl.load(target + row, mask=inside, other=0)
    logit = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    positive = own == place - row * classes
    margin = tl.where(positive, logit, -logit)
    # Logarithms of the sigmoids of the margin and of its negative, which do not overflow.
    tail = tl.log(1.0 + tl.exp(-tl.abs(margin)))
    log_p = tl.minimum(margin, 0.0) - tail
    log_q = tl.minimum(-margin, 0.0) - tail
    scale = tl.where(positive, alpha, 1 - alpha) * tl.exp(gamma * log_q)
    if WEIGHTED:
        scale *= tl.load(weight + own, mask=inside & (own < classes), other=1.0).to(tl.float32)
    if BACKWARD:
        slope = scale * (gamma * tl.exp(log_p) * log_p - tl.exp(log_q))
        tl.store(out + place, tl.where(positive, slope, -slope).to(out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + place, (-scale * log_p).to(out.dtype.element_ty), mask=inside)


def sigmoid_focal(x: Tensor, target: Tensor, weight: Tensor, out: Tensor, gamma: float, alpha: float,
                  backward: bool) -> None:
    """Write loss or derivative into ``out``.

    Args:
        x: Logits (N, C).
        target: Class indices (N,), int64; C for background.
        weight: Of the classes (C,); empty for none.
        out: Like ``x``, contiguous.
        gamma: Exponent of the focus.
        alpha: Weight of positives; negatives have 1 - alpha.
        backward: Whether the derivative is wanted.
    """
    if not x.numel():
        return
    with torch.cuda.device_of(x):
        focal_kernel[(triton.cdiv(x.numel(), BLOCK),)](
            x.contiguous(), target.contiguous(), weight.contiguous(), out, x.numel(), x.size(1), gamma, alpha,
            WEIGHTED=weight.numel() > 0, BACKWARD=backward, BLOCK=BLOCK)
