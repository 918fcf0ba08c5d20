"""Small device tensors, read by the host without waiting for the device."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DelayedRead:
    """Holds one tensor on its way to the host.

    By the next step its values have long been computed, so :meth:`take` costs nothing then, where reading at
    once would stop the host until the device has caught up.

    Example:
        >>> import torch
        >>> read = DelayedRead()
        >>> read.put(torch.tensor([True, False]), 'of step 1')
        False
        >>> read.take(), read.take()
        (([True, False], 'of step 1'), None)
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, Any, Any] | None = None

    def __reduce__(self) -> tuple[type[DelayedRead], tuple[()]]:
        # Copies and files have nothing pending; a CUDA event could not be copied.
        return DelayedRead, ()

    def put(self, values: Tensor, note: Any) -> bool:
        """Start the copy to the host, in place of one that was not taken.

        Args:
            values: Any shape and dtype.
            note: What :meth:`take` returns beside the values.

        Returns:
            bool: Whether :meth:`take` may have to wait for the device.
        """
        event = None
        if values.is_cuda:
            on_host = torch.empty_like(values, device='cpu', pin_memory=True).copy_(values, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(values.device))
            values = on_host
        self._pending = values, event, note
        return event is not None

    def take(self) -> tuple[list[Any], Any] | None:
        """Values as lists of numbers, and their note; None where there is nothing. Each is taken once."""
        if self._pending is None:
            return None
        values, event, note = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        return values.tolist(), note
