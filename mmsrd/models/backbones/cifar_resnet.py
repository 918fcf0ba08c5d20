"""ResNets for small images: resnet20 to resnet110, and resnet8x4 and resnet32x4 of the CRD benchmark."""
from __future__ import annotations

from typing import Any, Sequence

from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS
from .staged_backbone import KAIMING, StagedBackbone, check_depth, conv_bn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(conv_bn(in_channels, out_channels, stride=stride),
                                      conv_bn(out_channels, out_channels, relu=False))
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else conv_bn(in_channels, out_channels, 1, stride, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H / stride, W / stride)."""
        out: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return out


@MODELS.register_module()
class CifarResNet(StagedBackbone):
    """ResNet of three stages for images of about 32×32 (He et al. 2016, section 4.2).

    Args:
        depth: 6n + 2 layers.
        widths: Channels of the stem and of the three stages; (32, 64, 128, 256) is the "x4" of the benchmark.
        in_channels: Channels of the images.
        out_indices: Stages to return.
        init_cfg: Initial weights, in MMEngine's form.

    Raises:
        ConfigError: The depth is not 6n + 2, or ``widths`` has not four numbers.
    """

    def __init__(self, depth: int, widths: Sequence[int] = (16, 16, 32, 64), in_channels: int = 3,
                 out_indices: Sequence[int] = (-1,), init_cfg: Any = KAIMING) -> None:
        blocks = check_depth(depth, 2, 'CifarResNet')
        if len(widths) != 4:
            raise ConfigError.at('widths', widths, 'must be four numbers: of the stem and of three stages')
        stem, *rest = widths
        stages, width = [], stem
        for i, out in enumerate(rest):
            strides = [1 if i == 0 else 2] + [1] * (blocks - 1)
            stages.append(nn.Sequential(*(BasicBlock(width if j == 0 else out, out, s)
                                          for j, s in enumerate(strides))))
            width = out
        super().__init__(conv_bn(in_channels, stem), stages, out_indices, list(init_cfg or []))
