"""Wide ResNets for small images: WRN-16-2, WRN-40-1 and WRN-40-2 of the CRD benchmark."""
from __future__ import annotations

from typing import Any, Sequence

from torch import Tensor, nn

from ...registry import MODELS
from .staged_backbone import KAIMING, StagedBackbone, check_depth


class PreActivationBlock(nn.Module):
    """Normalisation and ReLU before each of two 3×3 convolutions; a convolutional shortcut starts after the first."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False))
        self.shortcut = None if in_channels == out_channels \
            else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H / stride, W / stride)."""
        active = self.activate(x)
        out: Tensor = self.residual(active) + (x if self.shortcut is None else self.shortcut(active))
        return out


@MODELS.register_module()
class CifarWideResNet(StagedBackbone):
    """Wide ResNet without dropout (Zagoruyko and Komodakis 2016).

    The last stage ends with the normalisation and ReLU that come before pooling.

    Args:
        depth: 6n + 4 layers.
        widen_factor: Multiplier of the stage widths 16, 32, 64.
        in_channels: Channels of the images.
        out_indices: Stages to return.
        init_cfg: Initial weights, in MMEngine's form.

    Raises:
        ConfigError: The depth is not 6n + 4.
    """

    def __init__(self, depth: int, widen_factor: int, in_channels: int = 3, out_indices: Sequence[int] = (-1,),
                 init_cfg: Any = KAIMING) -> None:
        blocks = check_depth(depth, 4, 'CifarWideResNet')
        stages: list[nn.Module] = []
        width = 16
        for i in range(3):
            out = 16 * 2**i * widen_factor
            # Equal widths keep the shortcut an identity, which needs stride 1: only the first stage can have them.
            layers: list[nn.Module] = [PreActivationBlock(width, out, 1 if i == 0 else 2)]
            layers += [PreActivationBlock(out, out, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*layers))
            width = out
        stages[-1] = nn.Sequential(stages[-1], nn.BatchNorm2d(width), nn.ReLU())
        super().__init__(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), stages, out_indices,
                         list(init_cfg or []))
