"""Functions that ``torch.compile`` leaves alone."""
from __future__ import annotations

from typing import Callable, ParamSpec, TypeVar, cast

import torch

P = ParamSpec('P')
R = TypeVar('R')


def no_compile(function: Callable[P, R]) -> Callable[P, R]:
    """Keep ``function`` out of compiled graphs, where it would be traced anew as its counters change.

    A compiled student is split at its hooks: before and after its forward pass, and at recorded modules.
    """
    return cast(Callable[P, R], torch.compiler.disable(function))  # type: ignore[no-untyped-call]
