"""DIST: correlation of class probabilities."""
from __future__ import annotations

from torch import Tensor

from ...config.checks import number
from ...ops import MIN_ROWS
from ...registry import MODELS
from . import functional as SF
from .base_loss import LossAndLogs
from .kl_div_loss import KLDivLoss


@MODELS.register_module()
class DISTLoss(KLDivLoss):
    """Relations of class probabilities (Huang et al., NeurIPS 2022, "Knowledge Distillation from a Stronger Teacher").

    ``T² · (beta · (1 - mean correlation between the classes of a row) + gamma · (1 - mean correlation of a class over
    the rows))``: rows are images, or positions of a map of logits. Channels must mean the same classes.

    The authors write T = 1, beta = gamma = 1 and weight 2 for ImageNet, T = 4 and weight 2 for CIFAR-100.

    Args:
        temperature: Both logits are divided by it; above 0.
        beta: Factor of the relation between classes, at least 0.
        gamma: Factor of the relation within a class, at least 0.
        sync: Rows of all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import DISTLoss
        >>> logits = torch.randn(8, 10)
        >>> abs(round(float(DISTLoss()(logits, logits)[0]), 4))
        0.0
    """

    min_rows = MIN_ROWS  # correlations over fewer are ±1 whatever the logits

    def __init__(self, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0, sync: bool = True) -> None:
        super().__init__(temperature, sync)
        self.beta = number('beta', beta, at_least=0)
        self.gamma = number('gamma', gamma, at_least=0)

    def compare(self, student: Tensor, teacher: Tensor, reduce: SF.Reduce) -> LossAndLogs:
        """See :class:`BaseDistillLoss`; the two relations are logged as ``between`` and ``within``."""
        between, within = SF.class_relations(student, teacher, self.temperature, reduce)
        value = SF.where_enough(self.beta * between + self.gamma * within, student, self.min_rows, reduce)
        return value, dict(between=between.detach(), within=within.detach())
