"""What distillation losses share."""
from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence, Tuple, cast

import torch
from torch import Tensor, nn

from ...compat.torch_versions import autocast
from ...config.checks import boolean, number
from ...errors import FeatureMismatchError, MMSRDError
from ...utils.dist import num_processes, sum_over_processes
from ...utils.tensors import num_rows, upcast
from . import functional as SF

LossAndLogs = Tuple[Tensor, Dict[str, Tensor]]
"""Scalar to minimise, and detached scalars that are logged as ``srd_<key>_<name of the loss>``."""


class LossTypeError(MMSRDError, TypeError):
    """A loss returns something that is not a loss; the caller adds the config key to the message."""


def loss_and_logs(returned: Any) -> LossAndLogs:
    """Return in one form what a loss has returned: a scalar tensor, alone or with a dict of what to log.

    Raises:
        LossTypeError: It is something else, or the name of what to log has "loss" in it.

    Example:
        >>> import torch
        >>> from mmsrd.models.losses.base_loss import loss_and_logs
        >>> loss_and_logs(torch.tensor(2.0))
        (tensor(2.), {})
    """
    value, logs = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, {})
    if not isinstance(value, Tensor) or value.numel() != 1 or not isinstance(logs, Mapping):
        what = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) and value.numel() != 1 else \
            f'a {type(returned).__name__}'
        raise LossTypeError(f'returns {what}; a loss returns a scalar tensor, or a scalar tensor and a dict of what to '
                            'log')
    summed = [key for key in logs if 'loss' in str(key)]
    if summed:
        raise LossTypeError(f'wants to log {summed[0]!r}; MMEngine adds up all entries with "loss" in their names, so '
                            'it would be trained once more; give it another name')
    numbers = {key: torch.as_tensor(log, device=value.device).detach() for key, log in logs.items()}
    return value.reshape(()), {key: x if x.is_floating_point() else x.float() for key, x in numbers.items()}


class BaseDistillLoss(nn.Module):
    """A loss between a student and a teacher feature of one shape, in float32 also under autocast.

    Derive from it, write :meth:`compare`, and register the class in
    :data:`mmsrd.registry.MODELS`. Any other module whose ``forward(student, teacher)``
    returns a loss, or ``(loss, logs)``, can be used as well.

    Args:
        sync: Statistics and means over all processes when there are several, so that
            the loss is that of one process with the whole batch. Without gradients each process is on its own.

    Attributes:
        compares_logits: Whether the channels have a meaning of their own, so that a projector makes no sense.
        channels_are_classes: Whether that meaning is one class each.
        min_rows: Rows that a level must have, in all processes that share the loss; with fewer its loss is zero.
        together: Whether processes work together without gradients, too: in a training step of weight 0.

    Raises:
        ConfigTypeError: ``sync`` is neither True nor False.

    Example:
        >>> import torch
        >>> from mmsrd.models.losses import BaseDistillLoss
        >>> class L1Loss(BaseDistillLoss):
        ...     def compare(self, student, teacher, reduce):
        ...         return (student - teacher).abs().mean(), {}
        >>> loss, logs = L1Loss()(torch.zeros(2, 3), torch.ones(2, 3))
        >>> float(loss)
        1.0
    """

    compares_logits = False
    channels_are_classes = True
    min_rows = 1
    together = False

    def __init__(self, sync: bool = True) -> None:
        super().__init__()
        self.sync = boolean('sync', sync)

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> LossAndLogs:
        """Compare two features, or several levels of them.

        Args:
            student: Projected student feature (N, C), (N, L, C) or (N, C, H, W), of any floating dtype; or some.
            teacher: Teacher feature of the same shape; no gradient flows into it.

        Returns:
            tuple: Scalar loss, the mean over the levels; and what to log, scalars or, for levels, vectors (levels,).

        Raises:
            FeatureMismatchError: The shapes differ or the rank is not 2, 3 or 4.
        """
        one = isinstance(student, Tensor)
        levels = cast('list[tuple[Tensor, Tensor]]', [(student, teacher)] if one else list(zip(student, teacher)))
        for level in levels:
            self.check(*level)
        with autocast(levels[0][0].device):
            loss, logs = self.compare_levels([(s, t.detach()) for s, t in levels], sum_over_processes(self.shares))
        return loss, {key: value[0] for key, value in logs.items()} if one else logs

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Say why two features cannot be compared, if so.

        Raises:
            FeatureMismatchError: As :meth:`forward`.
        """
        if student.shape != teacher.shape or student.dim() not in (2, 3, 4):
            raise FeatureMismatchError(
                f'{type(self).__name__} compares two features of one shape (N, C), (N, L, C) or (N, C, H, W), but got '
                f'student {tuple(student.shape)} and teacher {tuple(teacher.shape)}')

    def with_backend(self, backend: str) -> BaseDistillLoss | None:
        """Return the same loss computed in another way; None where there is one way only.

        Args:
            backend: One of :data:`mmsrd.ops.BACKENDS`; ``'autograd'`` is the reference.
        """
        return None

    @property
    def shares(self) -> bool:
        """Return whether processes work together: not in a validation loss, which may be of one of them alone."""
        return self.sync and (self.together or torch.is_grad_enabled())

    @property
    def shares_rows(self) -> bool:
        """Return whether the rows of other processes count, too."""
        return num_processes(self.shares) > 1

    def rows_of(self, feature: Tensor) -> int:
        """Rows of a feature in this process that :attr:`min_rows` is about."""
        return num_rows(feature)

    def compare_levels(self, levels: Sequence[tuple[Tensor, Tensor]], reduce: SF.Reduce) -> LossAndLogs:
        """Mean loss of the levels, and their logs (levels,); a loss that can take them together overrides it."""
        return mean_of([loss_and_logs(self.compare(upcast(student), upcast(teacher), reduce))
                        for student, teacher in levels])

    def compare(self, student: Tensor, teacher: Tensor, reduce: SF.Reduce) -> Tensor | LossAndLogs:
        """Loss, alone or with logs, of two features of one shape.

        Args:
            student: Projected student feature, in float32 or float64.
            teacher: Teacher feature without gradient, likewise.
            reduce: Sum over processes; None for this process alone.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f'sync={self.sync}'


def mean_of(compared: Sequence[LossAndLogs]) -> LossAndLogs:
    """Mean of several losses, and their logs side by side."""
    losses, logs = zip(*compared)
    keys = dict.fromkeys(key for log in logs for key in log)  # a batch of which nothing was compared has none
    return torch.stack(losses).mean(), {key: torch.stack([log[key] for log in logs if key in log]) for key in keys}


class StandardizingLoss(BaseDistillLoss):
    """A loss that standardises both features, if only to log their alignment.

    Args:
        eps: Added to the variance in the standardisation, at least 0.
        sync: As for :class:`BaseDistillLoss`.

    Raises:
        ConfigError: An argument is outside of what is listed.
    """

    def __init__(self, eps: float = 1e-4, sync: bool = True) -> None:
        super().__init__(sync)
        self.eps = number('eps', eps, at_least=0)

    def compare(self, student: Tensor, teacher: Tensor, reduce: SF.Reduce) -> LossAndLogs:
        """See :class:`BaseDistillLoss`; what :meth:`value` returns, and ``{'alignment': mean of rho_c}``."""
        z, u = (SF.standardize(x, self.eps, reduce) for x in (student, teacher))
        with torch.no_grad():
            alignment = SF.correlation(z, u, reduce).mean()
        value = self.value(student, teacher, z, u, reduce)
        if self.min_rows > 1:
            value = SF.where_enough(value, student, self.min_rows, reduce)
        return value, {'alignment': alignment}

    def value(self, student: Tensor, teacher: Tensor, z: Tensor, t: Tensor, reduce: SF.Reduce) -> Tensor:
        """Return the loss, scalar.

        Args:
            student: Projected student feature, in float32 or float64.
            teacher: Teacher feature of the same shape.
            z: The student's feature, standardised.
            t: The teacher's feature, standardised.
            reduce: Sum over processes; None for this process alone.
        """
        raise NotImplementedError
