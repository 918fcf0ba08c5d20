"""Losses that are not finite, found without making the host wait for the device."""
from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor

from ..errors import NonFiniteError


class FiniteCheck:
    """Looks at the losses of a step: at once on the CPU, one step later on an accelerator.

    By the next step the flags have long been computed, so reading them costs nothing,
    where reading them at once would stop the host until the device has caught up.

    Args:
        delayed: Whether to look one step later; None for what suits the device.
    """

    def __init__(self, delayed: bool | None = None) -> None:
        self._delayed = delayed
        self._pending: tuple[Tensor, Any, list[str]] | None = None
        self._patience = 0
        self._in_a_row = 0

    def __reduce__(self) -> tuple[type[FiniteCheck], tuple[bool | None]]:
        # Copies and files have nothing pending; a CUDA event could not be copied.
        return FiniteCheck, (self._delayed,)

    def check(self, described: Mapping[str, Tensor], patience: int = 0) -> None:
        """Check the losses of the step before, then those of this one as soon as possible.

        Args:
            described: Losses by what to say of them where they are not finite.
            patience: Steps in a row that may have such losses, where a loss scaler skips them.

        Raises:
            NonFiniteError: One of them is NaN or infinite.
        """
        self.flush()
        self._patience = patience
        if not described:
            return
        flags = torch.stack([loss.detach().isfinite() for loss in described.values()])
        event = None
        if flags.is_cuda:
            on_host = torch.empty_like(flags, device='cpu', pin_memory=True).copy_(flags, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(flags.device))
            flags = on_host
        self._pending = flags, event, list(described)
        if not (event is not None if self._delayed is None else self._delayed):
            self.flush()

    def flush(self) -> None:
        """Check what is pending.

        Raises:
            NonFiniteError: A loss was NaN or infinite.
        """
        if self._pending is None:
            return
        flags, event, descriptions = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        wrong = [text for text, finite in zip(descriptions, flags.tolist()) if not finite]
        self._in_a_row = self._in_a_row + 1 if wrong else 0
        if self._in_a_row > self._patience:
            raise NonFiniteError('; '.join(wrong))
