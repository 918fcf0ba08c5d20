#!/usr/bin/env python
"""How often each backend of SRDLoss reads or writes a tensor of the features' size, and what it keeps.

Counted on PyTorch's operators, so the Triton kernels, which are none, do not show; theirs are four reads forwards (both
features, twice), two reads and one write backwards.
"""
from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmsrd.models.losses import SRDLoss

SHAPE = (2, 64, 24, 24)
_NOT_TOUCHING = ('view', 'detach', 'expand', 'unsqueeze', 'transpose', 'empty', 'as_strided', 'slice', 'select')


class Counter(TorchDispatchMode):
    """Counts tensors of ``numel`` elements that operators take and return."""

    def __init__(self, numel: int) -> None:
        super().__init__()
        self.numel = numel
        self.passes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(word in str(func) for word in _NOT_TOUCHING):
            self.passes += sum(isinstance(x, torch.Tensor) and x.numel() == self.numel
                               for x in tree_leaves((args, result)))  # not kwargs: what is written to is the result
        return result


def count(backend: str) -> dict[str, float]:
    """Passes forwards and backwards, and copies of the feature that are kept for backward beside the two features."""
    torch.manual_seed(0)
    s, t = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    own = {x.untyped_storage().data_ptr() for x in (s, t)}
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with Counter(s.numel()) as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss, _ = SRDLoss(backend=backend)(s, t)
    with Counter(s.numel()) as backward:
        loss.backward()
    return dict(forward=forward.passes, backward=backward.passes, kept=round(sum(kept.values()) / (4 * s.numel()), 2))


if __name__ == '__main__':
    print('| backend | passes forwards | backwards | copies kept |\n|---|---|---|---|')
    for backend in ('autograd', 'torch'):
        result = count(backend)
        print(f'| {backend} | {result["forward"]} | {result["backward"]} | {result["kept"]} |')
