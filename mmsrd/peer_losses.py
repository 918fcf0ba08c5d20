"""Losses of other methods, for comparison in the same setting: PKD, and the plain squared error."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from . import functional as SF
from .config_checks import typed
from .distributed import reduction
from .losses import check_features
from .registry import MODELS


class _FeatureLoss(nn.Module):
    """What both share: the checks, float32, and the alignment that is logged.

    Args:
        eps: Added to the variance in the standardisation.
        sync: Statistics and means over all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.
    """

    def __init__(self, eps: float = 1e-4, sync: bool = True) -> None:
        super().__init__()
        self.eps = float(typed('eps', eps, (int, float), 'a number'))
        self.sync = typed('sync', sync, bool, 'True or False')

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare two features of one shape; computed in float32 also under autocast.

        Args:
            student: Projected student feature (N, C), (N, L, C) or (N, C, H, W).
            teacher: Teacher feature of the same shape; no gradient flows into it.

        Returns:
            tuple: Scalar loss, and ``{'alignment': mean of rho_c}`` (1 aligned, 0 unrelated).

        Raises:
            FeatureMismatchError: The shapes differ or the rank is not 2, 3 or 4.
        """
        check_features(self, student, teacher)
        reduce = reduction(self.sync)
        with torch.autocast(device_type=student.device.type, enabled=False):
            s, t = SF.wide(student), SF.wide(teacher.detach())
            z, u = (SF.standardize(x, self.eps, reduce) for x in (s, t))
            with torch.no_grad():
                alignment = SF.correlation(z, u, reduce).mean()
            return self.compare(s, t, z, u, reduce), {'alignment': alignment}

    def compare(self, s: Tensor, t: Tensor, z: Tensor, u: Tensor, reduce: SF.Reduce) -> Tensor:
        """The loss, from features ``s`` and ``t`` and standardised features ``z`` and ``u``."""
        raise NotImplementedError


@MODELS.register_module()
class PKDLoss(_FeatureLoss):
    """``mean((z - u)²) / 2`` of standardised features (PKD, Cao et al., NeurIPS 2022): 1 less the mean correlation.

    The authors compare without a projector (``projector=None``) and weigh it with 6.
    """

    def compare(self, s: Tensor, t: Tensor, z: Tensor, u: Tensor, reduce: SF.Reduce) -> Tensor:
        """See :class:`_FeatureLoss`."""
        return SF.mean_square(z - u, reduce) / 2


@MODELS.register_module()
class FeatureMSELoss(_FeatureLoss):
    """``mean((s - t)²)`` of the features as they are (FitNets, Romero et al. 2015)."""

    def compare(self, s: Tensor, t: Tensor, z: Tensor, u: Tensor, reduce: SF.Reduce) -> Tensor:
        """See :class:`_FeatureLoss`."""
        return SF.mean_square(s - t, reduce)
