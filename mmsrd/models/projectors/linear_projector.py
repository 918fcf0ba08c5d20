"""A projector that is one matrix."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...config.checks import boolean
from ...registry import MODELS
from .base_projector import BaseProjector


@MODELS.register_module()
class LinearProjector(BaseProjector):
    """One linear map over the channels of a feature of any layout.

    It is a 1×1 convolution on maps (N, C, H, W) and a linear layer on vectors
    (N, C) and tokens (N, L, C), with the same weight (out, in).

    Args:
        in_channels: Channels of the student feature.
        out_channels: Channels of the teacher feature.
        bias: The standardisation after the projector removes a bias, so its
            gradient would be zero; off by default.

    Raises:
        ConfigError: ``bias`` is not a bool.

    Example:
        >>> import torch
        >>> from mmsrd import LinearProjector
        >>> projector = LinearProjector(8, 32)
        >>> projector(torch.zeros(2, 8, 5, 5)).shape, projector(torch.zeros(2, 8)).shape
        (torch.Size([2, 32, 5, 5]), torch.Size([2, 32]))
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if boolean('bias', bias) else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's own Linear and Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, C_in, H, W), (N, L, C_in) or (N, C_in); the layout stays.

        Raises:
            FeatureMismatchError: The feature has another rank.
        """
        return self.apply_matrix(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f'{self.in_channels} -> {self.out_channels}, bias={self.bias is not None}'
