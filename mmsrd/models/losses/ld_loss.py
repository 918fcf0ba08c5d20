"""LD: KL divergence between the distributions of box edges."""
from __future__ import annotations

from torch import Tensor

from ...config.checks import whole_number
from ...errors import FeatureMismatchError
from ...registry import MODELS
from ...utils.tensors import channel_dim
from . import functional as SF
from .base_loss import LossAndLogs
from .kl_div_loss import KLDivLoss


@MODELS.register_module()
class LDLoss(KLDivLoss):
    """Localisation distillation (Zheng et al., CVPR 2022) on the whole map, for GFL-like box heads.

    Such a head gives, for each of the four edges of a box, logits of ``bins`` distances: channels (4 · bins) of
    an edge after the other. ``T² · mean over positions and edges of KL(softmax(teacher / T) || softmax(student / T))``.
    MMDetection's ``KnowledgeDistillationKLDivLoss`` also divides by the number of bins; this loss does not.

    In MMDetection's heads the last step multiplies these logits by a learned scale of the level; tap that module::

        boxes=dict(type='LDLoss', student='bbox_head.scales', teacher='bbox_head.scales', balance=1.0)

    Args:
        bins: Number of distances, ``reg_max + 1`` of the head.
        temperature: Both logits are divided by it; above 0. The authors use 10.
        sync: Average over all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import LDLoss
        >>> logits = torch.randn(2, 4 * 17, 8, 8)
        >>> float(LDLoss()(logits, logits)[0])
        0.0
    """

    channels_are_classes = False

    def __init__(self, bins: int = 17, temperature: float = 10.0, sync: bool = True) -> None:
        super().__init__(temperature, sync)
        self.bins = whole_number('bins', bins, at_least=2)

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Say why two features cannot be compared, if so.

        Raises:
            FeatureMismatchError: The shapes differ, or the channels are not four edges of ``bins`` each.
        """
        super().check(student, teacher)
        channels = student.size(channel_dim(student))
        if channels % (4 * self.bins):
            raise FeatureMismatchError(f'LDLoss with bins={self.bins} compares {4 * self.bins} channels, {self.bins} '
                                       f'for each edge of a box, but got {channels}; choose what a GFL-like head gives '
                                       'for boxes, and bins=reg_max + 1')

    def compare(self, student: Tensor, teacher: Tensor, reduce: SF.Reduce) -> LossAndLogs:
        """See :class:`BaseDistillLoss`; there is nothing to log."""
        s, t = (x.movedim(channel_dim(x), -1).reshape(-1, self.bins) for x in (student, teacher))
        return SF.kl_divergence(s, t, self.temperature, reduce), {}

    def extra_repr(self) -> str:
        return f'bins={self.bins}, {super().extra_repr()}'
