"""What projectors share."""
from __future__ import annotations

from torch import Tensor, nn


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
