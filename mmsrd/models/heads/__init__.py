"""Heads; each imports its toolbox only when a config asks for it."""
from __future__ import annotations

from typing import Any

from torch import nn

from ...registry import MODELS


@MODELS.register_module(name='DeiTDistillHead')
def deit_distill_head(**kwargs: Any) -> nn.Module:
    """Build a :class:`~mmsrd.models.heads.deit_distill_head.DeiTDistillHead`; MMPretrain is imported only then."""
    from .deit_distill_head import DeiTDistillHead
    return DeiTDistillHead(**kwargs)


__all__ = ['deit_distill_head']
