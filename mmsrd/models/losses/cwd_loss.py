"""CWD: KL divergence between where channels are active."""
from __future__ import annotations

from torch import Tensor

from ...config.checks import boolean, number
from ...errors import FeatureMismatchError
from ...ops import MIN_ROWS
from ...registry import MODELS
from . import functional as SF
from .base_loss import StandardizingLoss


@MODELS.register_module()
class CWDLoss(StandardizingLoss):
    """Channel-wise distillation (Shu et al., ICCV 2021): each channel of an image is a distribution over positions.

    ``T² · mean over images and channels of KL(softmax(t / T) || softmax(z / T))``, each softmax over the positions.

    The defaults are the recipe of MMYOLO for RTMDet (``configs/rtmdet/distillation``): T = 1, a linear projector, and
    both features standardised. MMYOLO adds the losses of three levels with weight 1; a loss is the mean of its levels
    here, so that is ``weight=3``. The authors compare features as they are, and logits of segmentors with T = 4 and
    weight 3.

    Args:
        temperature: Both features are divided by it; above 0.
        standardize: Whether features are standardised before.
        eps: Added to the variance in the standardisation, at least 0.
        sync: Statistics and means over all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import CWDLoss
        >>> feature = torch.randn(2, 16, 8, 8)
        >>> loss, logs = CWDLoss()(3 * feature + 1, feature)   # standardised, so that scale and shift do not count
        >>> abs(round(float(loss), 3))
        0.0
    """

    def __init__(self, temperature: float = 1.0, standardize: bool = True, eps: float = 1e-4,
                 sync: bool = True) -> None:
        super().__init__(eps, sync)
        self.temperature = number('temperature', temperature, above=0)
        self.standardize = boolean('standardize', standardize)
        self.min_rows = MIN_ROWS if standardize else 1

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Say why two features cannot be compared, if so.

        Raises:
            FeatureMismatchError: The shapes differ, or they have no positions.
        """
        super().check(student, teacher)
        if student.dim() == 2:
            raise FeatureMismatchError(f'CWDLoss compares positions, and vectors {tuple(student.shape)} have none; '
                                       'choose maps (N, C, H, W) or tokens (N, L, C), without pool=True')

    def value(self, student: Tensor, teacher: Tensor, z: Tensor, t: Tensor, reduce: SF.Reduce) -> Tensor:
        """See :class:`~mmsrd.models.losses.base_loss.StandardizingLoss`."""
        compared = (z, t) if self.standardize else (student, teacher)
        return SF.spatial_kl_divergence(*compared, self.temperature, reduce)
