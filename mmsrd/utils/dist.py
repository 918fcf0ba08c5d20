"""Several processes: sums that gradients flow through, and gloo where there are no accelerators."""
from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import traceback
from typing import Any, Callable, Iterator, Mapping, cast

import torch
import torch.distributed as torch_dist
from mmengine import dist
from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from ..errors import MMSRDError


def num_processes(sync: bool) -> int:
    """Number of processes that share a loss: all that train together if ``sync``, else 1."""
    return int(dist.get_world_size()) if sync else 1


def gather_stacked(x: Tensor) -> Tensor:
    """``x`` of every process, stacked along a new first dimension by rank; not differentiable."""
    if torch_dist.get_backend() != 'nccl':
        return torch.stack(dist.all_gather(x.contiguous()))
    out = x.new_empty(num_processes(True), *x.shape)  # as one collective, without a copy for each process
    torch_dist.all_gather_into_tensor(out, x.contiguous()[None])
    return out


def sum_over_processes(sync: bool) -> Callable[[Tensor], Tensor] | None:
    """The differentiable sum of a tensor over all processes; None where there is one process, or not ``sync``.

    Every process computes the same loss from the sum, so the gradient of a process's share
    is the sum of what all of them send back. DistributedDataParallel averages the
    gradients of parameters, which cancels the repetition.
    """
    return all_reduce if num_processes(sync) > 1 else None


def on_cpu() -> bool:
    """Return whether MMEngine finds no accelerator on this machine."""
    return bool(get_device() == 'cpu')


def init_gloo(launcher: str = 'pytorch') -> None:
    """Start the default process group on gloo from a launcher's environment, unless one is there.

    MMEngine's own start would select a CUDA device; it leaves an existing group alone.

    Args:
        launcher: ``'pytorch'`` (torchrun) or ``'slurm'``; nothing happens for others.
    """
    if torch_dist.is_initialized() or launcher not in ('pytorch', 'slurm'):
        return
    if launcher == 'slurm':  # the variables that MMEngine sets, too
        task = os.environ
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', task['SLURM_NODELIST']], capture_output=True,
                               text=True, check=True)
        task.setdefault('MASTER_ADDR', hosts.stdout.split()[0])
        task.setdefault('MASTER_PORT', '29500')
        task.update(RANK=task['SLURM_PROCID'], LOCAL_RANK=task['SLURM_LOCALID'], WORLD_SIZE=task['SLURM_NTASKS'])
    torch_dist.init_process_group('gloo')
    # Threads of gloo that outlive the interpreter abort the process now and then (status -6).
    atexit.register(_destroy_group)


@contextlib.contextmanager
def end_all_on_error() -> Iterator[None]:
    """End this one of several processes at once when an exception leaves the block.

    With the message alone and status 2 where a user can fix it, as one process. torchrun and
    ``srun --kill-on-bad-exit`` then end the others. An exit in the usual way may wait for collectives in
    which the others wait, too, until NCCL's time limit: half an hour.
    """
    try:
        yield
    except Exception as e:
        if num_processes(True) == 1:
            raise
        is_a_users = isinstance(e, MMSRDError) and not shows_tracebacks()
        if is_a_users:
            print(f'{type(e).__name__}: {e}', file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if is_a_users else 1)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a model without wrappers for distributed training, and without that of ``torch.compile``."""
    inner: Any = model
    while is_model_wrapper(inner) or hasattr(inner, '_orig_mod'):
        inner = inner.module if is_model_wrapper(inner) else inner._orig_mod
    return cast(nn.Module, inner)


def shows_tracebacks() -> bool:
    """Return whether the user wants the traceback of an error of mmsrd: ``MMSRD_TRACEBACK=1``."""
    return os.environ.get('MMSRD_TRACEBACK') == '1'


def _destroy_group() -> None:
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def cpu_wrapper_cfg(config: Mapping[str, Any]) -> dict[str, Any]:
    """``model_wrapper_cfg`` of ``config`` for processes without devices; MMEngine would pass ``[LOCAL_RANK]``."""
    given = dict(config.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False)))
    given.setdefault('device_ids', None)
    return given
