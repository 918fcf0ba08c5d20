"""The rest of a pass over a data loader, without loading what is skipped."""
from __future__ import annotations

import itertools
from typing import Any, Iterator

from torch.utils.data import DataLoader


class RemainingBatches:
    """Batch sampler that leaves out the first batches of its first pass; later passes are whole.

    Args:
        sampler: Batch sampler that gives the indices. What it counts and shuffles goes on as if nothing was left out.
        skip: Batches to leave out.
        empty: Empty batches to give in their place, so that each batch meets the worker that it would have met.
    """

    def __init__(self, sampler: Any, skip: int, empty: int) -> None:
        self._sampler = sampler
        self._skip = skip
        self._empty = empty

    def __iter__(self) -> Iterator[Any]:
        # A generator: what begins a pass is its first batch, not this call, which PyTorch makes twice.
        skip, self._skip = self._skip, 0
        empty, self._empty = self._empty, 0
        yield from ([] for _ in range(empty))
        yield from itertools.islice(iter(self._sampler), skip, None)

    def __len__(self) -> int:
        """Of a whole pass, which hooks count by."""
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['_sampler'], name)  # by vars: copies ask before there is one


def skip_batches(loader: DataLoader[Any], skip: int) -> int:
    """Let the next pass over ``loader`` begin after ``skip`` batches.

    Args:
        loader: Stays the same object; workers of an earlier pass are given up.
        skip: Batches to leave out.

    Returns:
        int: How many batches at the beginning of that pass are None and are to be dropped.
    """
    empty = skip % loader.num_workers if loader.num_workers else 0
    # DataLoader refuses an assignment; hooks of the toolboxes change loaders in the same way.
    vars(loader)['batch_sampler'] = RemainingBatches(loader.batch_sampler, skip, empty)
    vars(loader)['_iterator'] = None
    return empty
