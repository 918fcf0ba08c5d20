"""One process of a data-parallel training with balance: weights, gradients and norms after some steps."""
from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from helpers.two_levels import attached, block, loss, steps

SIZES = {2: [(2, 2), (3, 1), (4, 0)], 4: [(1, 1, 1, 1), (3, 1, 2, 2)]}
"""Images of each process, by number of processes; (4, 0) is a process without any."""
LOSSES = dict(a=loss('neck.0', balance=1.0), b=loss('neck.1', type='FeatureMSELoss', balance=0.5),
              c=loss('neck.1', type='PKDLoss', weight=0.1))


def images_of(rank: int, count: int) -> Tensor:
    """Images of one process; the processes differ."""
    generator = torch.Generator().manual_seed(rank)
    return torch.rand(count, 3, 8, 8, generator=generator, dtype=torch.float64) * (rank + 1)


def train(images: Tensor, share: float = 1.0, parallel: bool = False) -> dict[str, Any]:
    """Weights and norms after three steps in float64, and the last gradients."""
    model, distiller = attached(block(**LOSSES))
    model.double()
    distiller.teacher.model.double()
    model.share = share
    gradients = steps(DistributedDataParallel(model) if parallel else model, images)
    distiller.update_balances()
    norms = {name: distiller.losses[name].balance.norms for name in 'ab'}
    return dict(gradients={name.replace('module.', '', 1): value for name, value in gradients.items()},
                weights={name: p.detach() for name, p in model.named_parameters()}, norms=norms)


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    rank, processes = dist.get_rank(), dist.get_world_size()
    results = [train(images_of(rank, sizes[rank]), sizes[rank] * processes / sum(sizes), True)
               for sizes in SIZES[processes]]
    torch.save(results, f'{sys.argv[1]}.{rank}')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
