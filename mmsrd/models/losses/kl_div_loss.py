"""KL divergence between class distributions."""
from __future__ import annotations

from torch import Tensor

from ...config.checks import number
from ...registry import MODELS
from . import functional as SF
from .base_loss import BaseDistillLoss, LossAndLogs


@MODELS.register_module()
class KLDivLoss(BaseDistillLoss):
    """KL divergence between the softened class distributions of teacher and student (Hinton et al. 2015).

    Batch mean, scaled with T²; the SRD recipe for classifiers adds it at T = 1.

    Args:
        temperature: Both logits are divided by it; above 0.
        sync: Average over all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import KLDivLoss
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> float(KLDivLoss(temperature=2.0)(logits, logits)[0])
        0.0
    """

    compares_logits = True
    divergence = staticmethod(SF.kl_divergence)

    def __init__(self, temperature: float = 1.0, sync: bool = True) -> None:
        super().__init__(sync)
        self.temperature = number('temperature', temperature, above=0)

    def compare(self, student: Tensor, teacher: Tensor, reduce: SF.Reduce) -> LossAndLogs:
        """See :class:`BaseDistillLoss`; features are logits, and there is nothing to log."""
        return self.divergence(student, teacher, self.temperature, reduce), {}

    def extra_repr(self) -> str:
        return f'temperature={self.temperature:g}, sync={self.sync}'
