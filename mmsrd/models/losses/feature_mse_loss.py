"""FitNets: squared error of the features as they are."""
from __future__ import annotations

from torch import Tensor

from ...registry import MODELS
from . import functional as SF
from .base_loss import StandardizingLoss


@MODELS.register_module()
class FeatureMSELoss(StandardizingLoss):
    """``mean((s - t)²)`` of the features as they are (FitNets, Romero et al. 2015).

    Args:
        eps: Added to the variance in the standardisation, which only the logged alignment uses.
        sync: Means over all processes when there are several.

    Example:
        >>> import torch
        >>> from mmsrd import FeatureMSELoss
        >>> float(FeatureMSELoss()(torch.zeros(2, 3), torch.full((2, 3), 2.0))[0])
        4.0
    """

    def value(self, student: Tensor, teacher: Tensor, z: Tensor, t: Tensor, reduce: SF.Reduce) -> Tensor:
        """See :class:`~mmsrd.models.losses.base_loss.StandardizingLoss`."""
        return SF.mean_square(student - teacher, reduce)
