"""The paper's diagnostics of a projector: spectrum, effective rank, correlation of input and output."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ...utils.tensors import channel_dim
from ..losses.functional import standardize

MAX_ROWS = 4096
"""Rows that a correlation is taken over: its error is then about 1 / 64."""


def matrices(projector: nn.Module) -> list[Tensor]:
    """The weight matrices of a projector, in order, without gradient; none of an identity.

    A projector whose matrices are not parameters has a method ``matrices``.
    """
    own = getattr(projector, 'matrices', None)
    if callable(own):
        return list(own())
    return [p.detach() for p in projector.parameters() if p.dim() == 2]


@torch.no_grad()
def singular_values(projector: nn.Module) -> Tensor:
    """Singular values (min(in, out),) of the product of the projector's matrices, largest first, float32.

    For one matrix those of itself; for an MLP those of its linear part.
    """
    product, *rest = (m.float().cpu() for m in matrices(projector))
    for matrix in rest:
        product = matrix @ product
    values: Tensor = torch.linalg.svdvals(product)
    return values


def effective_rank(values: Tensor) -> float:
    """Exponential of the entropy of the singular values' shares (Roy and Vetterli 2007): from 1 to their number."""
    share = values / values.sum().clamp_min(1e-30)
    return float(torch.exp(-(share * share.clamp_min(1e-30).log()).sum()))


@torch.no_grad()
def cross_correlation(a: Tensor, b: Tensor) -> float:
    """Mean absolute correlation of the channels of ``a`` with those of ``b``, over at most :data:`MAX_ROWS` rows.

    0 where a projector's output has nothing to do with single channels of its input; the
    paper plots how training decorrelates them.
    """
    rows = [x.movedim(channel_dim(x), -1).flatten(0, -2).float() for x in (a, b)]
    step = max(rows[0].size(0) // MAX_ROWS, 1)
    z, t = (standardize(x[::step][:MAX_ROWS], eps=1e-12) for x in rows)
    return float((z.T @ t / z.size(0)).abs().mean())
