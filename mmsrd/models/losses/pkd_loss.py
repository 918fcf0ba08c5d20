"""PKD: squared error of standardised features."""
from __future__ import annotations

from torch import Tensor

from ...ops import MIN_ROWS
from ...registry import MODELS
from . import functional as SF
from .base_loss import StandardizingLoss


@MODELS.register_module()
class PKDLoss(StandardizingLoss):
    """``mean((z - t)²) / 2`` of standardised features (PKD, Cao et al., NeurIPS 2022): 1 less the mean correlation.

    The authors compare without a projector (``projector=None``) and add the losses of all levels, each with weight 6.
    A loss is the mean of its levels here, so that is ``weight=24`` for four levels.

    Args:
        eps: Added to the variance in the standardisation, at least 0.
        sync: Statistics and means over all processes when there are several.

    Example:
        >>> import torch
        >>> from mmsrd import PKDLoss
        >>> feature = torch.randn(8, 16)
        >>> loss, logs = PKDLoss()(3 * feature + 1, feature)   # scale and shift of a channel do not count
        >>> round(float(loss), 3), round(float(logs['alignment']), 3)
        (0.0, 1.0)
    """

    min_rows = MIN_ROWS

    def value(self, student: Tensor, teacher: Tensor, z: Tensor, t: Tensor, reduce: SF.Reduce) -> Tensor:
        """See :class:`~mmsrd.models.losses.base_loss.StandardizingLoss`."""
        return SF.mean_square(z - t, reduce) / 2
