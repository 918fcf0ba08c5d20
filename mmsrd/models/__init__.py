"""Models that the toolboxes lack: small backbones of the CIFAR-100 benchmark, and parts of a distilled DeiT.

Configs name them with their scope: ``backbone=dict(type='mmsrd.CifarResNet', depth=20)``.
"""
from __future__ import annotations

from typing import Any

from torch import nn

from ..registry import MODELS
from .cifar_resnet import CifarResNet
from .cifar_shufflenet import CifarShuffleNetV1, CifarShuffleNetV2
from .cifar_vgg import CifarVGG
from .cifar_wide_resnet import CifarWideResNet
from .conv_stem import ConvStem
from .mobilenet import CifarMobileNetV2, MobileNetV1


@MODELS.register_module(name='DeiTDistillHead')
def deit_distill_head(**kwargs: Any) -> nn.Module:
    """Build a :class:`~mmsrd.models.deit_head.DeiTDistillHead`; MMPretrain is imported only then."""
    from .deit_head import DeiTDistillHead
    return DeiTDistillHead(**kwargs)


__all__ = ['CifarMobileNetV2', 'CifarResNet', 'CifarShuffleNetV1', 'CifarShuffleNetV2', 'CifarVGG',
           'CifarWideResNet', 'ConvStem', 'MobileNetV1', 'deit_distill_head']
