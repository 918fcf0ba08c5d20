"""Head of a DeiT whose distillation token is taught by another loss than its class token.

Imports MMPretrain, so it is imported only where a config asks for it (see
:mod:`mmsrd.models.heads`).
"""
from __future__ import annotations

from typing import Any

from mmpretrain.models.heads import DeiTClsHead
from torch import Tensor


class DeiTDistillHead(DeiTClsHead):
    """MMPretrain's ``DeiTClsHead`` with the training that it leaves out.

    In training the labels teach the class token alone; the logits of the distillation
    token are there to be tapped (``head.layers.head_dist``). In evaluation it is its
    base: the mean of both heads (Touvron et al. 2021, section 4). The parameters are the
    base's, so a checkpoint fits stock configs.
    """

    def loss(self, feats: Any, data_samples: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Classification loss of the class token.

        Args:
            feats: Output of the backbone; its last level is a class and a distillation token, (N, C) each.
            data_samples: MMPretrain's data samples, with labels or mixed scores.
            kwargs: For the loss module.

        Returns:
            dict: ``loss``, and accuracies if the head computes them.
        """
        class_token, distillation_token = self.pre_logits(feats)
        losses: dict[str, Tensor] = self._get_loss(self.layers.head(class_token), data_samples, **kwargs)
        # Without a distillation loss in this step DDP still needs a gradient, if a zero one.
        losses['loss'] = losses['loss'] + 0 * self.layers.head_dist(distillation_token).sum()
        return losses
