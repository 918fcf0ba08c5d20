"""Sums over processes that gradients flow through."""
from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _AllReduceSum(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Every process computes the same loss from the sum, so the gradient of one
        # process's share is what all of them send back. DistributedDataParallel
        # averages parameter gradients, which cancels the repetition.
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum of ``x`` over all processes, differentiable in each process's share."""
    total: Tensor = _AllReduceSum.apply(x)
    return total


def is_multi_process() -> bool:
    """Whether more than one process trains together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
