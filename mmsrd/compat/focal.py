"""Focal losses with the calling convention of ``mmcv._ext``.

Definitions as in mmcv 2.1 (``sigmoid_focal_loss_cuda_kernel.cuh`` and
``softmax_focal_loss_cuda_kernel.cuh``): the sigmoid form weights positives by
alpha and negatives by 1 - alpha; the softmax form weights every row by alpha.
"""
from __future__ import annotations

import torch
from torch import Tensor

from ..functional import wide

_TINY = torch.finfo(torch.float32).tiny


def _row_weight(weight: Tensor, target: Tensor, like: Tensor) -> Tensor | float:
    """Per-row class weight (N,); background rows (target == C) have none and count with 1."""
    if weight.numel() == 0:
        return 1.0
    known = target < weight.numel()
    picked = weight.to(like.dtype)[target.clamp(max=weight.numel() - 1)]
    return torch.where(known, picked, torch.ones_like(picked))


def _per_row(weight: Tensor | float) -> Tensor | float:
    return weight.unsqueeze(1) if isinstance(weight, Tensor) else weight


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float,
                               alpha: float) -> None:
    """Loss of ``input`` (N, C) logits for ``target`` (N,) class indices (C = background) into ``output`` (N, C)."""
    x = wide(input)
    p = x.sigmoid()
    positive = target.unsqueeze(1) == torch.arange(x.size(1), device=x.device)
    on = -alpha * (1 - p).pow(gamma) * p.clamp(min=_TINY).log()
    off = -(1 - alpha) * p.pow(gamma) * (1 - p).clamp(min=_TINY).log()
    output.copy_(torch.where(positive, on, off) * _per_row(_row_weight(weight, target, x)))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float,
                                alpha: float) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` by its logits, for a unit output gradient."""
    x = wide(input)
    p = x.sigmoid()
    positive = target.unsqueeze(1) == torch.arange(x.size(1), device=x.device)
    on = -alpha * (1 - p).pow(gamma) * (1 - p - gamma * p * p.clamp(min=_TINY).log())
    off = -(1 - alpha) * p.pow(gamma) * (gamma * (1 - p) * (1 - p).clamp(min=_TINY).log() - p)
    grad_input.copy_(torch.where(positive, on, off) * _per_row(_row_weight(weight, target, x)))


def _picked(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the target class (N,) in float32, and which rows count (target >= 0)."""
    return wide(softmax).gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1), target >= 0


def softmax_focal_loss_forward(softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float,
                               alpha: float) -> None:
    """Loss of ``softmax`` (N, C) probabilities for ``target`` (N,) into ``output`` (N,); target < 0 is ignored."""
    p, valid = _picked(softmax, target)
    loss = -alpha * (1 - p).pow(gamma) * p.clamp(min=_TINY).log()
    output.copy_(torch.where(valid, loss * _row_weight(weight, target.clamp(min=0), p), torch.zeros_like(p)))


def softmax_focal_loss_backward(softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, *,
                                gamma: float, alpha: float) -> None:
    """Derivative of :func:`softmax_focal_loss_forward` by the logits, for a unit output gradient."""
    p, valid = _picked(softmax, target)
    slope = alpha * (gamma * (1 - p).pow(gamma - 1) * p * p.clamp(min=_TINY).log() - (1 - p).pow(gamma))
    slope = torch.where(valid, slope * _row_weight(weight, target.clamp(min=0), p), torch.zeros_like(p))
    buff.copy_(slope)
    one_hot = target.unsqueeze(1) == torch.arange(softmax.size(1), device=softmax.device)
    grad_input.copy_(slope.unsqueeze(1) * (one_hot.float() - wide(softmax)))
