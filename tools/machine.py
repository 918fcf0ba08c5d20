"""What a measured result depends on beside its config: recorded with every result."""
from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ('torch', 'triton', 'mmengine', 'mmdet', 'mmpretrain', 'mmrazor', 'torchdistill')
_CPUINFO = Path('/proc/cpuinfo')


def machine(device: str | None = None) -> dict[str, str]:
    """Device, versions of Python and of the packages that are installed, and date.

    Args:
        device: ``'cuda'`` or ``'cpu'``; by default the GPU where there is one.
    """
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return dict(device=torch.cuda.get_device_name() if device == 'cuda' else _cpu(), python=platform.python_version(),
                date=datetime.date.today().isoformat(), **packages)


def _cpu() -> str:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    names = {line.partition(':')[0].strip(): line.partition(':')[2].strip() for line in lines}
    return f'CPU, {os.cpu_count()} cores, {names.get("model name", platform.machine())}'
