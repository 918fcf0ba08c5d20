"""VkD: smooth L1 distance to a layer-normalised teacher."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...registry import MODELS
from ...utils.tensors import channel_dim
from . import functional as SF
from .base_loss import StandardizingLoss


@MODELS.register_module()
class VkDLoss(StandardizingLoss):
    """Mean smooth L1 distance between the student's feature and the teacher's, layer-normalised over its channels.

    The loss of *VkD: Improving Knowledge Distillation using Orthogonal Projections* (Miles et al., CVPR 2024) for
    classifiers (``engine.py``, lines 91 to 100, at commit 6f8a507 of github.com/roymiles/VkD). The authors project
    with orthonormal columns: ``projector=dict(type='OrthogonalProjector')``. On maps each position is normalised by
    itself.

    Args:
        eps: Added to the variance in the standardisation, which only the logged alignment uses.
        sync: Means over all processes when there are several.

    Example:
        >>> import torch
        >>> from mmsrd import VkDLoss
        >>> teacher = torch.tensor([[10.0, 30.0], [5.0, 1.0]])   # normalised: [[-1, 1], [1, -1]]
        >>> loss, logs = VkDLoss()(torch.tensor([[-1.0, 1.0], [1.0, 1.0]]), teacher)
        >>> round(float(loss), 3)   # one element is 2 away: 2 - 0.5, over four
        0.375
    """

    def value(self, student: Tensor, teacher: Tensor, z: Tensor, t: Tensor, reduce: SF.Reduce) -> Tensor:
        """See :class:`~mmsrd.models.losses.base_loss.StandardizingLoss`."""
        dim = channel_dim(student)
        target = F.layer_norm(teacher.movedim(dim, -1), (teacher.size(dim),)).movedim(-1, dim)
        return SF.mean(F.smooth_l1_loss(student, target, reduction='none'), reduce)
