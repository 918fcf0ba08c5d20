"""Convolutional stem for the patch embedding of a vision transformer."""
from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import ConfigError
from ...registry import MODELS
from .staged_backbone import conv_bn


@MODELS.register_module()
class ConvStem(nn.Sequential):
    """Three convolutions at half the image size, then a patch embedding of what is left.

    A 7×7 convolution of stride 2 and two 3×3 ones, 64 channels each with batch
    normalisation and ReLU, then a convolution of kernel and stride half the patch
    size: the stem of the DeiT experiments (author file ``deit/models.py`` at commit
    31e8477). It takes the arguments of a convolution, so the patch embedding of a stock
    backbone builds it: ``backbone=dict(..., patch_cfg=dict(conv_type='mmsrd.ConvStem'))``.

    Args:
        in_channels: Channels of the images.
        out_channels: Width of the transformer.
        kernel_size: Patch size, even.
        stride: The same.
        padding: 0.
        dilation: 1.
        bias: Of the last convolution.
        width: Channels of the first three.

    Raises:
        ConfigError: The patches overlap, or their size is odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any = 0,
                 dilation: Any = 1, bias: bool = True, width: int = 64) -> None:
        sizes = {n for value in (kernel_size, stride) for n in ([value] if isinstance(value, int) else value)}
        size = next(iter(sizes))
        if len(sizes) != 1 or size % 2 or padding not in (0, (0, 0)) or dilation not in (1, (1, 1)):
            raise ConfigError(f'ConvStem: kernel_size = {kernel_size!r}, stride = {stride!r}, padding = {padding!r}, '
                              f'dilation = {dilation!r}: needs one even kernel_size = stride, no padding, dilation 1')
        super().__init__(conv_bn(in_channels, width, 7, stride=2), conv_bn(width, width), conv_bn(width, width),
                         nn.Conv2d(width, out_channels, size // 2, size // 2, bias=bias))
        for module in self.modules():  # as the authors do
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
