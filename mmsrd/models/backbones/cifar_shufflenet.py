"""ShuffleNets for small images, as in the CRD benchmark: a 1×1 stem that keeps the size, no first pooling."""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from .staged_backbone import StagedBackbone, conv_bn


class ChannelShuffle(nn.Module):
    """Interleaves groups of channels, as ``torch.nn.ChannelShuffle``, whose derivative PyTorch lacks until 2.1."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in the same shape."""
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class V1Block(nn.Module):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1; at stride 2 the pooled input is appended."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        # The stem has so few channels that groups would not pay (section 3.2 of the paper).
        first_groups = 1 if in_channels == 24 else groups
        new = out_channels - in_channels if stride == 2 else out_channels
        hidden = new // 4
        self.reduce = nn.Sequential(conv_bn(in_channels, hidden, 1, groups=first_groups),
                                    ChannelShuffle(first_groups))
        self.expand = nn.Sequential(conv_bn(hidden, hidden, 3, stride, hidden),
                                    conv_bn(hidden, new, 1, groups=groups, relu=False))
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H / stride, W / stride)."""
        out = self.expand(self.reduce(x))
        return F.relu(out + x if self.pool is None else torch.cat([out, self.pool(x)], 1))


@MODELS.register_module()
class CifarShuffleNetV1(StagedBackbone):
    """ShuffleNetV1 (Zhang et al. 2018) with three groups.

    Args:
        widths: Channels of the three stages.
        blocks: Blocks of the three stages.
        groups: Groups of the 1×1 convolutions.
        in_channels: Channels of the images.
        out_indices: Stages to return.
        init_cfg: Initial weights, in MMEngine's form; by default PyTorch's, as in the benchmark.
    """

    def __init__(self, widths: Sequence[int] = (240, 480, 960), blocks: Sequence[int] = (4, 8, 4), groups: int = 3,
                 in_channels: int = 3, out_indices: Sequence[int] = (-1,), init_cfg: Any = None) -> None:
        stages = []
        width = 24
        for out, count in zip(widths, blocks):
            stages.append(nn.Sequential(V1Block(width, out, 2, groups),
                                        *(V1Block(out, out, 1, groups) for _ in range(count - 1))))
            width = out
        super().__init__(conv_bn(in_channels, 24, 1), stages, out_indices, init_cfg)


class V2Block(nn.Module):
    """1×1, depthwise 3×3, 1×1 on half of the channels, or beside a second branch at stride 2; then a shuffle."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        source = in_channels if stride == 2 else half
        self.branch = nn.Sequential(conv_bn(source, half, 1), conv_bn(half, half, 3, stride, half, relu=False),
                                    conv_bn(half, half, 1))
        self.other = None if stride == 1 else nn.Sequential(
            conv_bn(in_channels, in_channels, 3, 2, in_channels, relu=False), conv_bn(in_channels, half, 1))
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H / stride, W / stride)."""
        kept, changed = x.chunk(2, 1) if self.other is None else (self.other(x), x)
        out: Tensor = self.shuffle(torch.cat([kept, self.branch(changed)], 1))
        return out


@MODELS.register_module()
class CifarShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 1x (Ma et al. 2018).

    Args:
        widths: Channels of the three stages and of the 1×1 convolution that ends the last.
        blocks: Blocks of the three stages, the one that halves the size included.
        in_channels: Channels of the images.
        out_indices: Stages to return.
        init_cfg: Initial weights, in MMEngine's form; by default PyTorch's, as in the benchmark.
    """

    def __init__(self, widths: Sequence[int] = (116, 232, 464, 1024), blocks: Sequence[int] = (4, 8, 4),
                 in_channels: int = 3, out_indices: Sequence[int] = (-1,), init_cfg: Any = None) -> None:
        *rest, last = widths
        stages = []
        width = 24
        for out, count in zip(rest, blocks):
            stages.append(nn.Sequential(V2Block(width, out, 2), *(V2Block(out, out, 1) for _ in range(count - 1))))
            width = out
        stages[-1] = nn.Sequential(stages[-1], conv_bn(width, last, 1))
        super().__init__(conv_bn(in_channels, 24, 1), stages, out_indices, init_cfg)
