"""MobileNetV1 for ImageNet, and the MobileNetV2 of the CRD benchmark for small images."""
from __future__ import annotations

from typing import Any, Sequence

from torch import Tensor, nn

from ...registry import MODELS
from .staged_backbone import KAIMING, StagedBackbone, conv_bn

_V1_BLOCKS = (((64, 1),), ((128, 2), (128, 1)), ((256, 2), (256, 1)), ((512, 2), *(((512, 1),) * 5)),
              ((1024, 2), (1024, 1)))
_V2_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet of depthwise separable convolutions, width 1 (Howard et al. 2017, table 1).

    Args:
        in_channels: Channels of the images.
        out_indices: Which of the five stages (strides 2, 4, 8, 16, 32) to return.
        init_cfg: Initial weights, in MMEngine's form.
    """

    def __init__(self, in_channels: int = 3, out_indices: Sequence[int] = (-1,), init_cfg: Any = KAIMING) -> None:
        stages = []
        width = 32
        for blocks in _V1_BLOCKS:
            layers = []
            for out, stride in blocks:
                layers += [conv_bn(width, width, 3, stride, groups=width), conv_bn(width, out, 1)]
                width = out
            stages.append(nn.Sequential(*layers))
        super().__init__(conv_bn(in_channels, 32, stride=2), stages, out_indices, list(init_cfg or []))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        # The benchmark has the widening convolution also where it widens by one.
        self.residual = nn.Sequential(conv_bn(in_channels, hidden, 1), conv_bn(hidden, hidden, 3, stride, hidden),
                                      conv_bn(hidden, out_channels, 1, relu=False))
        self.add = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H / stride, W / stride)."""
        out: Tensor = self.residual(x)
        return x + out if self.add else out


@MODELS.register_module()
class CifarMobileNetV2(StagedBackbone):
    """MobileNetV2 with half the widths and a second stage that keeps its size (CRD benchmark).

    MMPretrain's own has another order of strides, for 224×224.

    Args:
        width: Multiplier of the widths.
        in_channels: Channels of the images.
        out_indices: Which of the seven stages to return; the last ends with the 1×1 convolution to 1280.
        init_cfg: Initial weights, in MMEngine's form.
    """

    def __init__(self, width: float = 0.5, in_channels: int = 3, out_indices: Sequence[int] = (-1,),
                 init_cfg: Any = KAIMING) -> None:
        stages: list[nn.Module] = []
        stem = channels = int(32 * width)
        for expansion, base, count, stride in _V2_BLOCKS:
            layers: list[nn.Module] = []
            for j in range(count):
                layers.append(InvertedResidual(channels, int(base * width), stride if j == 0 else 1, expansion))
                channels = int(base * width)
            stages.append(nn.Sequential(*layers))
        stages[-1] = nn.Sequential(stages[-1], conv_bn(channels, max(1280, int(1280 * width)), 1))
        super().__init__(conv_bn(in_channels, stem, stride=2), stages, out_indices, list(init_cfg or []))
