"""Losses that are not finite, found without making the host wait for the device."""
from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..utils.delayed_read import DelayedRead


class FiniteCheck:
    """Looks at the losses of a step: at once on the CPU, one step later on an accelerator.

    Args:
        delayed: Whether to look one step later; None for what suits the device.
    """

    def __init__(self, delayed: bool | None = None) -> None:
        self._delayed = delayed
        self._read = DelayedRead()
        self._patience = 0
        self._in_a_row = 0

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
        would_wait = self._read.put(flags, list(described))
        if not (would_wait if self._delayed is None else self._delayed):
            self.flush()

    def flush(self) -> None:
        """Check what is pending.

        Raises:
            NonFiniteError: A loss was NaN or infinite.
        """
        read = self._read.take()
        if read is None:
            return
        wrong = [text for text, finite in zip(read[1], read[0]) if not finite]
        self._in_a_row = self._in_a_row + 1 if wrong else 0
        if self._in_a_row > self._patience:
            raise NonFiniteError('; '.join(wrong))
