"""Focal losses with the calling convention of ``mmcv._ext``, differentiated by autograd.

Definitions as in mmcv 2.1 (``sigmoid_focal_loss_cuda_kernel.cuh`` and
``softmax_focal_loss_cuda_kernel.cuh``): the sigmoid form weights positives by
alpha and negatives by 1 - alpha; the softmax form weights every row by alpha. Here the
sigmoid form is not capped where mmcv's logarithm underflows, at logits beyond 87.
"""
from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from ..utils.tensors import upcast

_TINY = torch.finfo(torch.float32).tiny


def _row_weight(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """Per-row class weight (N,); background rows (target == C) have none and count with 1."""
    if weight.numel() == 0:
        return like.new_ones(len(target))
    picked = weight.to(like.dtype)[target.clamp(max=weight.numel() - 1)]
    return torch.where(target < weight.numel(), picked, torch.ones_like(picked))


def _sigmoid_focal(x: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    one_hot = (target.unsqueeze(1) == torch.arange(x.size(1), device=x.device)).to(x.dtype)
    loss: Tensor = torchvision.ops.sigmoid_focal_loss(x, one_hot, alpha, gamma)
    return loss * _row_weight(weight, target, x).unsqueeze(1)


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float,
                               alpha: float) -> None:
    """Loss of ``input`` (N, C) logits for ``target`` (N,) class indices (C = background) into ``output`` (N, C)."""
    output.copy_(_sigmoid_focal(upcast(input), target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float,
                                alpha: float) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` by its logits, for a unit output gradient."""
    with torch.enable_grad():
        x = upcast(input).detach().requires_grad_()
        loss = _sigmoid_focal(x, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, x)[0])


def _softmax_focal(log_p: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Loss (N,) of the log probabilities (N,) of the target classes; 0 where target < 0."""
    loss = -alpha * (1 - log_p.exp()).pow(gamma) * log_p
    return torch.where(target >= 0, loss * _row_weight(weight, target.clamp(min=0), log_p), torch.zeros_like(log_p))


def _picked(softmax: Tensor, target: Tensor) -> Tensor:
    """Log probability of the target class (N,), in at least float32."""
    return upcast(softmax).gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1).clamp(min=_TINY).log()


def softmax_focal_loss_forward(softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float,
                               alpha: float) -> None:
    """Loss of ``softmax`` (N, C) probabilities for ``target`` (N,) into ``output`` (N,); target < 0 is ignored."""
    output.copy_(_softmax_focal(_picked(softmax, target), target, weight, gamma, alpha))


@torch.enable_grad()
def softmax_focal_loss_backward(softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, *,
                                gamma: float, alpha: float) -> None:
    """Derivative of :func:`softmax_focal_loss_forward` by the logits, for a unit output gradient."""
    log_p = _picked(softmax, target).detach().requires_grad_()
    slope, = torch.autograd.grad(_softmax_focal(log_p, target, weight, gamma, alpha).sum(), log_p)
    buff.copy_(slope)
    one_hot = target.unsqueeze(1) == torch.arange(softmax.size(1), device=softmax.device)
    grad_input.copy_(slope.unsqueeze(1) * (one_hot.to(slope.dtype) - upcast(softmax)))
