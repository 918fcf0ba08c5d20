"""One process of the data-parallel test: writes gradients of its share of a batch to a file."""
from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmsrd.losses import SRDLoss
from mmsrd.projectors import LinearProjector


class Net(nn.Module):
    """A student layer with its projector; returns the distillation loss."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 3)
        self.projector = LinearProjector(4, 5)
        self.loss = SRDLoss(form=form)

    def forward(self, x: torch.Tensor, teacher: torch.Tensor, pool: bool) -> torch.Tensor:
        s = self.projector(self.layer(x))
        if pool:
            s, teacher = s.mean((2, 3)), teacher.mean((2, 3))
        return self.loss(s, teacher)[0]


def data(rank: int, sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of one rank."""
    generator = torch.Generator().manual_seed(100 + rank)
    n = sizes[rank]
    return torch.randn(n, 3, 8, 8, generator=generator) + rank, torch.randn(n, 5, 6, 6, generator=generator)


def main() -> None:
    form, pool, sizes, out = sys.argv[1], sys.argv[2] == 'True', [int(s) for s in sys.argv[3].split(',')], sys.argv[4]
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    net = DistributedDataParallel(Net(form))
    loss = net(*data(rank, sizes), pool)
    loss.backward()
    torch.save(dict(loss=loss.detach(), **{n: p.grad for n, p in net.module.named_parameters()}), f'{out}.{rank}')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
