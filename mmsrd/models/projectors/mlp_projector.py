"""A projector of several matrices."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...config.checks import whole_number
from ...registry import MODELS
from .base_projector import BaseProjector
from .linear_projector import LinearProjector


@MODELS.register_module()
class MLPProjector(BaseProjector):
    """Linear maps with ReLU between them: the larger projector of the paper's ablation, where it helps less.

    Args:
        in_channels: Channels of the student feature.
        out_channels: Channels of the teacher feature.
        layers: Linear maps, at least 2.
        hidden: Width between them; None for ``out_channels``.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import MLPProjector
        >>> MLPProjector(8, 32, layers=3, hidden=16)(torch.zeros(2, 49, 8)).shape
        torch.Size([2, 49, 32])
    """

    def __init__(self, in_channels: int, out_channels: int, layers: int = 2, hidden: int | None = None) -> None:
        super().__init__(in_channels, out_channels)
        width = out_channels if hidden is None else whole_number('hidden', hidden, at_least=1)
        widths = [in_channels, *[width] * (whole_number('layers', layers, at_least=2) - 1), out_channels]
        self.linears = nn.ModuleList(LinearProjector(widths[i], widths[i + 1], bias=True) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, C_in, H, W), (N, L, C_in) or (N, C_in); the layout stays.

        Raises:
            FeatureMismatchError: The feature has another rank.
        """
        for i, linear in enumerate(self.linears):
            x = linear(F.relu(x) if i else x)
        return x
