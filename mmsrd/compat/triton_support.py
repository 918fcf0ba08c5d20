"""Whether Triton can be used, found by trying."""
from __future__ import annotations

import functools
import importlib.util
import logging
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable

import torch
from mmengine.logging import print_log

from .torch_versions import version_tuple


@functools.lru_cache(maxsize=None)
def has_triton() -> bool:
    """Whether there is a Triton that the kernels are written for; until PyTorch 2.4 it comes with an older one."""
    if importlib.util.find_spec('triton') is None:
        return False
    try:
        return version_tuple(version('triton')) >= (3, 0)
    except PackageNotFoundError:  # a build of one's own; it is tried
        return True


def runs(user: str, device: torch.device, kernel: Callable[[], Any]) -> bool:
    """Whether a kernel runs on ``device``: Triton needs a C compiler and a GPU that it knows.

    Args:
        user: Whose kernel it is, for the warning where it does not run.
        device: The device.
        kernel: Launches it on a small tensor of ``device`` and waits, so that a failed launch shows.
    """
    try:
        kernel()
        return True
    except Exception as e:
        print_log(f'{user}: Triton cannot be used on {device} ({type(e).__name__}: {e}); PyTorch\'s operators are '
                  'used instead, which is slower', logger='current', level=logging.WARNING)
        return False
