"""Projectors: maps from student to teacher channels, trained with the student."""
from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ConfigError, FeatureMismatchError
from .registry import MODELS


@MODELS.register_module()
class LinearProjector(nn.Module):
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
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        if not isinstance(bias, bool):
            raise ConfigError.at('bias', bias, 'must be True or False')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's own Linear and Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, C_in, H, W), (N, L, C_in) or (N, C_in); the layout stays.

        Raises:
            FeatureMismatchError: The feature has another rank.
        """
        if x.dim() == 4:
            return F.conv2d(x, self.weight[:, :, None, None], self.bias)
        if x.dim() in (2, 3):
            return F.linear(x, self.weight, self.bias)
        raise FeatureMismatchError(f'LinearProjector takes (N, C), (N, L, C) or (N, C, H, W), not {tuple(x.shape)}')

    def extra_repr(self) -> str:
        return f'{self.in_channels} -> {self.out_channels}, bias={self.bias is not None}'


@MODELS.register_module()
class MLPProjector(nn.Module):
    """Linear maps with ReLU between them: the larger projector of the paper's ablation, where it helps less.

    Args:
        in_channels: Channels of the student feature.
        out_channels: Channels of the teacher feature.
        layers: Linear maps, at least 2.
        hidden: Width between them; None for ``out_channels``.

    Raises:
        ConfigError: An argument is outside of what is listed.
    """

    def __init__(self, in_channels: int, out_channels: int, layers: int = 2, hidden: int | None = None) -> None:
        super().__init__()
        for key, value, least in (('layers', layers, 2), ('hidden', out_channels if hidden is None else hidden, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError.at(key, value, f'must be a whole number of at least {least}')
        widths = [in_channels, *[hidden or out_channels] * (layers - 1), out_channels]
        self.linears = nn.ModuleList(LinearProjector(a, b, bias=True) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, C_in, H, W), (N, L, C_in) or (N, C_in); the layout stays.

        Raises:
            FeatureMismatchError: The feature has another rank.
        """
        for i, linear in enumerate(self.linears):
            x = linear(F.relu(x) if i else x)
        return x
