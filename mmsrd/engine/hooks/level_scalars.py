"""``LevelScalars``: what a loss does at each level in one step."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...distillers.feature_loss import FeatureLoss


class LevelScalars:
    """Looks at the levels of a loss; nothing is read from the device before :meth:`take`.

    Args:
        loss: The loss, whose criterion is watched from now on.

    Attributes:
        passed: Whether the criterion was called since :meth:`clear`.
    """

    def __init__(self, loss: FeatureLoss) -> None:
        self.passed = False
        self._loss = loss
        self._alignment: list[Tensor] = []
        self._handle = loss.criterion.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: Any, output: Any) -> None:
        self.passed = True
        logs = output[1] if isinstance(output, tuple) and len(output) == 2 else {}
        if 'alignment' in logs:
            self._alignment.append(logs['alignment'].detach().flatten())  # of one level or of all

    def close(self) -> None:
        """Look no longer."""
        self.clear()
        self._handle.remove()

    def clear(self) -> None:
        """Forget the step."""
        self.passed = False
        self._alignment.clear()

    def take(self) -> dict[str, float]:
        """``srd_<what>/<loss>.<i>`` of the step, for level pair ``i``; read it once the norms are in the balances.

        * ``level_alignment``: alignment, the mean over several batches.
        * ``task_norm``: norm of the gradient at the student's level, without that of this loss. What other losses send
          there through other levels is part of it.
        * ``distill_norm``: norm of this loss's gradient there, at weight 1 and unscaled.
        * ``balance``: the factor of the next step.
        """
        loss, count = self._loss, len(self._loss.pairs)
        scalars: dict[str, float] = {}
        values = torch.cat(self._alignment) if self._alignment else torch.empty(0)
        if len(values) and len(values) % count == 0:
            for level, value in enumerate(values.view(-1, count).mean(0).tolist()):
                scalars[f'srd_level_alignment/{loss.config.name}.{level}'] = value
        self.clear()
        measured = loss.measured
        if measured is None or measured.last is None:
            return scalars
        rows = dict(srd_task_norm=measured.last[0], srd_distill_norm=measured.last[1])
        if loss.balance is not None:
            rows['srd_balance'] = loss.balance.factors()
        slots = [measured.levels.index(pair.student) for pair in loss.pairs]
        return {**scalars, **{f'{what}/{loss.config.name}.{i}': row[slot] for what, norms in rows.items()
                              for row in [norms.tolist()] for i, slot in enumerate(slots)}}
