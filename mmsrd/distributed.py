"""Several processes: sums that gradients flow through, and gloo where there are no accelerators."""
from __future__ import annotations

import atexit
from typing import Any, Callable, Mapping

import torch
import torch.distributed as dist
from mmengine.device import get_device
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


def processes(sync: bool) -> int:
    """Number of processes that share a loss: all that train together if ``sync``, else 1."""
    return dist.get_world_size() if sync and dist.is_available() and dist.is_initialized() else 1


def gather_all(x: Tensor) -> Tensor:
    """``x`` of every process, stacked in the order of their ranks; not differentiable."""
    everywhere = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, x.contiguous())
    return torch.stack(everywhere)


def reduction(sync: bool) -> Callable[[Tensor], Tensor] | None:
    """How a loss adds up over processes: :func:`all_reduce_sum` if ``sync`` and several train together, or None."""
    return all_reduce_sum if processes(sync) > 1 else None


def on_cpu() -> bool:
    """Whether MMEngine finds no accelerator on this machine."""
    return bool(get_device() == 'cpu')


def init_gloo() -> None:
    """Start the default process group on gloo from torchrun's environment, unless one is there.

    MMEngine's own start would select a CUDA device; it leaves an existing group alone.
    """
    if not dist.is_initialized():
        dist.init_process_group('gloo')
        # Its threads would otherwise live on while the process ends, which aborts it now and then (status -6).
        atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def cpu_wrapper(config: Mapping[str, Any]) -> dict[str, Any]:
    """``model_wrapper_cfg`` of ``config`` for processes without devices; MMEngine would pass ``[LOCAL_RANK]``."""
    given = dict(config.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False)))
    given.setdefault('device_ids', None)
    return given
