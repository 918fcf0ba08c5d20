"""``Balance``: how strongly a loss acts on each level of the student, found from norms of gradients."""
from __future__ import annotations

import logging
from typing import Any, Sequence

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import Tensor, nn

from ..utils.delayed_read import DelayedRead
from ..utils.dist import gather_stacked
from .gradient_taps import MeasuredStep

MOMENTUM = 0.9
"""Part of the running means that a step keeps."""
LIMIT = 1e4
"""Largest factor, so that noise is not amplified where the gradient vanishes because the features are equal."""


class Balance(nn.Module):
    """Factors by which the gradient of a loss is scaled before it enters the student, one for each level.

    The gradient that arrives at a level has ``target`` times the norm of the gradient that the student's own losses
    send there, both as running means over steps; the projector's gradient is not scaled. A step uses the means of
    the steps before it, so nothing waits in the backward pass; the factors of the first step are zero.

    Gradient that a loss sends to a level through another level computed from it (an extra level of a pyramid, a neck
    above a tapped backbone) counts as the student's own gradient there, after scaling.

    Norms are those of all processes together: :func:`update_balances` exchanges them between steps. A step with an
    infinite or undefined norm (an overflow under fp16) changes nothing, and neither does one without a gradient.

    Args:
        key: Config key of the loss, for messages.
        target: Norm of the distillation gradient over that of the student's own losses.
        levels: Indices of the student's levels that the loss compares.

    Attributes:
        norms: Running means (2, levels), float32: of the student's own losses, and of this loss before scaling.
            Both start at zero; the bias of the first steps cancels in their ratio.
        last: Norms (2, levels) of the newest step; None before the first.

    Example:
        >>> import torch
        >>> balance = Balance('distill.losses.neck', target=0.5, levels=[0, 1])
        >>> balance.update(torch.tensor([[4.0, 0.0], [1.0, 3.0]]), torch.tensor(True))
        >>> balance.factors()
        tensor([2., 0.])
    """

    norms: Tensor

    def __init__(self, key: str, target: float, levels: Sequence[int]) -> None:
        super().__init__()
        self.key = key
        self.target = target
        self.levels = tuple(levels)
        self.step: MeasuredStep | None = None
        self.last: Tensor | None = None
        self.register_buffer('norms', torch.zeros(2, len(self.levels)))
        self._hits = DelayedRead()
        self._warned: set[int] = set()

    def begin(self, weight: float) -> MeasuredStep:
        """Start to measure a step whose loss is multiplied by ``weight``."""
        self.step = MeasuredStep(self.levels, self.factors(), weight)
        return self.step

    def factors(self) -> Tensor:
        """Factors (levels,), float32 on the device of the student."""
        return self._ratio().clamp(max=LIMIT)

    def _ratio(self) -> Tensor:
        task, distill = self.norms.float()
        return torch.where(distill > 0, self.target * task / distill, torch.zeros_like(task))

    def update(self, measured: Tensor, usable: Tensor) -> None:
        """Take the norms of a step into the running means.

        Args:
            measured: Norms (2, levels), float32.
            usable: Whether all norms of the step are finite; scalar.
        """
        self.last = measured
        means = MOMENTUM * self.norms + (1 - MOMENTUM) * measured
        self.norms.copy_(torch.where(usable & (measured[1] > 0), means, self.norms))
        self._warn_of_limit()
        self._hits.put(self._ratio() > LIMIT, None)

    def _warn_of_limit(self) -> None:
        hits = self._hits.take()
        for level, hit in zip(self.levels, hits[0] if hits else []):
            if hit and level not in self._warned:
                self._warned.add(level)
                print_log(f'{self.key}.balance = {self.target:g}: the gradient at level {level} needs a factor '
                          f'above the limit {LIMIT:g}, so the limit is used. Either student and teacher are equal '
                          'there, or the loss is very small', logger='current', level=logging.WARNING)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # A student's checkpoint has none, nor has that of a run without balance, whose resume says what has changed.
        state_dict.setdefault(f'{prefix}norms', self.norms)
        super()._load_from_state_dict(state_dict, prefix, *args)


class GradientWatch:
    """Gradient norms of one step of a loss of constant weight: measured as for a balance, and nothing is scaled.

    As for a balance, what a loss sends to a level through another one counts as the student's own gradient there.

    Args:
        levels: Indices of the student's levels that the loss compares.
        device: Device of the student.

    Attributes:
        last: Norms (2, levels) once the step has been taken in: of the student's own losses, and of this loss at
            weight 1; None before.
    """

    def __init__(self, levels: Sequence[int], device: torch.device) -> None:
        self.levels = tuple(levels)
        self.device = device
        self.step: MeasuredStep | None = None
        self.last: Tensor | None = None

    def begin(self, weight: float) -> MeasuredStep:
        """Start to measure a step whose loss is multiplied by ``weight``."""
        self.step = MeasuredStep(self.levels, torch.ones(len(self.levels), device=self.device), weight)
        return self.step

    def update(self, measured: Tensor, usable: Tensor) -> None:
        """Keep the norms of the step."""
        self.last = measured


def update_balances(balances: Sequence[Balance | GradientWatch]) -> None:
    """Exchange the norms that the last step has measured, and update all running means.

    Called between steps by every process, so the exchange (one small ``all_gather``) can neither wait in a backward
    pass nor be missed by a process where no gradient arrived. A process's gradient is that of its own share of the
    batch, and DistributedDataParallel averages: the norm of the whole gradient is the root of the sum of squares,
    over the number of processes.
    """
    pending = [(balance, balance.step) for balance in balances if balance.step is not None]
    if not pending:
        return
    norms = torch.cat([step.norms().flatten() for _, step in pending])
    num_processes = get_world_size()
    if num_processes > 1:
        norms = torch.linalg.vector_norm(gather_stacked(norms), dim=0) / num_processes
    sizes = [2 * len(balance.levels) for balance, _ in pending]
    parts = torch.split(norms, sizes)
    # Losses that are only watched have no say: diagnostics do not change the training.
    kept = [part for (balance, _), part in zip(pending, parts) if isinstance(balance, Balance)]
    usable = torch.cat(kept or [norms]).isfinite().all()
    for (balance, _), part in zip(pending, parts):
        balance.update(part.view(2, -1), usable)
        balance.step = None
