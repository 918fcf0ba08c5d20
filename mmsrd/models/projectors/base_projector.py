"""What projectors share."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import FeatureMismatchError


class BaseProjector(nn.Module):
    """A map from the student's channels to the teacher's, trained with the student.

    Derive from it and register the class in :data:`mmsrd.registry.MODELS`. Any other
    module that is built with ``in_channels`` and ``out_channels`` can be used as well.

    Args:
        in_channels: Channels of the student feature.
        out_channels: Channels of the teacher feature.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, C_in, H, W), (N, L, C_in) or (N, C_in); the layout stays."""
        raise NotImplementedError

    def apply_matrix(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply the channels of a feature of any layout by ``weight`` (out, in), and add ``bias`` (out,).

        Args:
            x: Feature (N, C), (N, C, H, W) or (N, L, C).
            weight: Matrix (out, in).
            bias: Vector (out,); None for none.

        Raises:
            FeatureMismatchError: The feature has another rank than 2, 3 or 4.
        """
        if x.dim() == 4:
            return F.conv2d(x, weight[:, :, None, None], bias)
        if x.dim() in (2, 3):
            return F.linear(x, weight, bias)
        raise FeatureMismatchError(f'{type(self).__name__} takes (N, C), (N, L, C) or (N, C, H, W), not '
                                   f'{tuple(x.shape)}')
