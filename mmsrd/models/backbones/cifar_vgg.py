"""VGG for small images: VGG8 and VGG13 of the CRD benchmark."""
from __future__ import annotations

from typing import Any, Sequence

from torch import nn

from ...errors import ConfigError
from ...registry import MODELS
from .staged_backbone import KAIMING, StagedBackbone, conv_bn

_CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3),
                 19: (2, 2, 4, 4, 4)}


@MODELS.register_module()
class CifarVGG(StagedBackbone):
    """VGG with batch normalisation and without the large linear layers (after Simonyan and Zisserman 2015).

    Args:
        depth: 8, 11, 13, 16 or 19.
        in_channels: Channels of the images.
        out_indices: Stages to return; images are halved before the second, third and fourth.
        init_cfg: Initial weights, in MMEngine's form.

    Raises:
        ConfigError: There is no such depth.
    """

    def __init__(self, depth: int, in_channels: int = 3, out_indices: Sequence[int] = (-1,),
                 init_cfg: Any = KAIMING) -> None:
        if depth not in _CONVOLUTIONS:
            raise ConfigError.at('depth', depth, f'CifarVGG has depths {", ".join(map(str, _CONVOLUTIONS))}')
        stages = []
        width = in_channels
        for i, (out, count) in enumerate(zip((64, 128, 256, 512, 512), _CONVOLUTIONS[depth])):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if i in (1, 2, 3) else []
            for _ in range(count):
                layers.append(conv_bn(width, out, bias=True))  # the biases are counted in the published sizes
                width = out
            stages.append(nn.Sequential(*layers))
        super().__init__(nn.Identity(), stages, out_indices, list(init_cfg or []))
