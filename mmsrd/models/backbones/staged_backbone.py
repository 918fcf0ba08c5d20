"""What the small backbones share: a stem, stages in sequence, and the choice of stages to return."""
from __future__ import annotations

from typing import Any, Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import ConfigError

KAIMING = (dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu'),
           dict(type='Constant', layer='BatchNorm2d', val=1))
"""Initial weights of He et al. (2015), which the benchmark gives all but its ShuffleNets."""


def conv_bn(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1,
            relu: bool = True, bias: bool = False) -> nn.Sequential:
    """Convolution that keeps the size but for its stride, batch normalisation, and a ReLU if wanted.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Width and height of the kernel, odd.
        stride: Stride in both directions.
        groups: Groups of channels.
        relu: Whether a ReLU follows.
        bias: Whether the convolution has a bias.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class StagedBackbone(BaseModule):
    """A stem and stages, applied in turn.

    Args:
        stem: Applied first.
        stages: Applied in turn after it.
        out_indices: Stages whose outputs are returned; negative ones count from the end.
        init_cfg: Initial weights, in MMEngine's form.

    Raises:
        ConfigError: ``out_indices`` names a stage that does not exist.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], out_indices: Sequence[int] = (-1,),
                 init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        if not out_indices or not all(-len(stages) <= i < len(stages) for i in out_indices):
            raise ConfigError.at('out_indices', out_indices, f'must be indices of the {len(stages)} stages of '
                                 f'{type(self).__name__}')
        self.out_indices = sorted(i % len(stages) for i in out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, H, W) of the chosen stages for images (N, 3, H, W)."""
        x = self.stem(x)
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)


def check_depth(depth: int, base: int, name: str) -> int:
    """Blocks per stage of a network of three stages with two convolutions a block and ``base`` other layers.

    Args:
        depth: Layers of the network.
        base: Layers outside of the blocks.
        name: Name of the network, for messages.

    Raises:
        ConfigError: There is no such network.
    """
    if depth <= base or (depth - base) % 6:
        raise ConfigError.at('depth', depth, f'{name} has 6n + {base} layers: {base + 6}, {base + 12}, ...')
    return (depth - base) // 6
