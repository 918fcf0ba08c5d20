"""One process of the data-parallel tests: loss and gradients of its share of the batch, for each case."""
from __future__ import annotations

import itertools
import sys
from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmsrd.config import LossConfig
from mmsrd.distillers import LevelPair, match_shapes
from mmsrd.models.losses import BinaryKLDivLoss, CWDLoss, DISTLoss, KLDivLoss, LDLoss, SRDLoss
from mmsrd.models.projectors import LinearProjector
from mmsrd.ops import has_triton

SIZES = {2: [(4, 4), (6, 4), (3, 1), (5, 0), (2, 1)], 4: [(2, 2, 2, 2), (3, 1, 2, 5)]}
"""Images of each process, by number of processes: even, an uneven last batch, a process that has none, and too few
vectors for statistics."""
OTHERS = {'kl': partial(KLDivLoss, 2.0), 'binary kl': partial(BinaryKLDivLoss, 2.0), 'cwd': partial(CWDLoss, 2.0),
          'dist': partial(DISTLoss, 2.0), 'ld': partial(LDLoss, 2, 2.0)}
LOSSES = ('elementwise', 'sum', 'correlation', 'autograd', *OTHERS, *(('triton',) if has_triton() else ()))
KINDS = ('pooled', 'dense', 'image sizes', 'tokens')


def cases(processes: int, sync: bool = True) -> list[tuple[str, str, tuple[int, ...]]]:
    """Loss, kind of feature, and images of each process: fewer than four only where statistics are shared.

    CWD has no vectors, and all images of one size.
    """
    sizes = [images for images in SIZES[processes] if sync or min(images) > 3]
    return [case for case in itertools.product(LOSSES, KINDS, sizes)
            if case[0] != 'cwd' or case[1] in ('dense', 'tokens')]


class Net(nn.Module):
    """A student layer with its projector; returns the distillation loss."""

    def __init__(self, loss: str, sync: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 3)
        self.projector = LinearProjector(4, 8)
        self.loss = OTHERS[loss](sync=sync) if loss in OTHERS else SRDLoss(
            form='correlation' if loss == 'correlation' else 'elementwise',
            reduction='sum' if loss == 'sum' else 'mean', sync=sync,
            backend=loss if loss in ('autograd', 'triton') else 'auto')

    def features(self, x: torch.Tensor, teacher: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Both sides, as the distiller brings them together."""
        s = self.layer(x)
        if kind == 'tokens':
            s, teacher = s.flatten(2).transpose(1, 2), teacher.flatten(2).transpose(1, 2)
        pair = LevelPair(0, 0, tuple(s.shape), tuple(teacher.shape))
        s, teacher = match_shapes(s, teacher, pair, LossConfig('x', {}, 'x', 'x', pool=kind == 'pooled'))
        return self.projector(s), teacher

    def forward(self, x: torch.Tensor, teacher: torch.Tensor, kind: str) -> torch.Tensor:
        return self.loss(*self.features(x, teacher, kind))[0]


def share(rank: int, kind: str, sizes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and teacher feature of one rank; the ranks differ in their statistics, and, if asked for, in size."""
    generator = torch.Generator().manual_seed(100 + rank)
    n, extra = sizes[rank], 2 * rank if kind == 'image sizes' else 0
    x = torch.randn(n, 3, 8 + extra, 9, generator=generator) * (rank + 1) + rank
    return x, torch.randn(n, 8, 6 + extra, 7, generator=generator)


def main() -> None:
    out, sync = sys.argv[1], sys.argv[2] == 'True'
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    results = []
    for loss, kind, sizes in cases(dist.get_world_size(), sync):
        dtype = torch.float64 if loss in OTHERS else torch.float32  # in which kernels compute
        net = DistributedDataParallel(Net(loss, sync).to(dtype))
        value = net(*(x.to(dtype) for x in share(dist.get_rank(), kind, sizes)), kind)
        value.backward()
        results.append(dict(loss=value.detach(), **{n: p.grad for n, p in net.module.named_parameters()}))
    if dist.get_rank() == 0:  # a validation loss of one process, which the others know nothing of
        with torch.no_grad():
            x, teacher = share(0, 'dense', SIZES[dist.get_world_size()][0])
            assert Net('elementwise', sync)(x, teacher, 'dense').isfinite()
    torch.save(results, f'{out}.{dist.get_rank()}')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
