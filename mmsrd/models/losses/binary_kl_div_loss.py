"""Binary KL divergence: logits of heads that decide on each class by itself."""
from __future__ import annotations

from ...registry import MODELS
from . import functional as SF
from .kl_div_loss import KLDivLoss


@MODELS.register_module()
class BinaryKLDivLoss(KLDivLoss):
    """KL divergence between the sigmoids of teacher and student, summed over the classes.

    For dense detection heads trained with a sigmoid (FCOS, RetinaNet, ATSS, GFL) and classifiers with several labels
    to an image. Tap the layer that makes the logits; where it is shared by the levels of a pyramid, each of its calls
    is a level, and ``levels='stride'`` pairs them::

        logits=dict(type='BinaryKLDivLoss', student='bbox_head.conv_cls', teacher='bbox_head.conv_cls',
                    levels='stride', balance=1.0)

    Channels must mean the same: equal classes in equal order, and equal anchors where there are several.
    Mean over positions, scaled with T².

    Args:
        temperature: Both logits are divided by it; above 0.
        sync: Average over all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import BinaryKLDivLoss
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> float(BinaryKLDivLoss(temperature=2.0)(logits, logits)[0])
        0.0
    """

    divergence = staticmethod(SF.binary_kl_divergence)
