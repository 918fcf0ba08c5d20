"""What a measured result depends on beside its config: recorded with every result."""
from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ('torch', 'torchvision', 'triton', 'numpy', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmpretrain',
             'pycocotools', 'mmrazor', 'torchdistill')
_ROOT = Path(__file__).resolve().parents[2]
_CPUINFO = Path('/proc/cpuinfo')


def machine(device: str | None = None) -> dict[str, str]:
    """Device (``cuda`` or ``cpu``; by default the GPU where there is one), versions of what is installed, and date."""
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return dict(device=torch.cuda.get_device_name() if device == 'cuda' else _cpu(), python=platform.python_version(),
                date=datetime.date.today().isoformat(), commit=_commit(), **packages)


def _cpu() -> str:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    names = {line.partition(':')[0].strip(): line.partition(':')[2].strip() for line in lines}
    return f'CPU, {os.cpu_count()} cores, {names.get("model name", platform.machine())}'


def _commit() -> str:
    """Return what is checked out, with ``-dirty`` where its Python has been edited; nothing outside of a checkout."""
    try:
        # Records and tables change with every result: what counts is what ran.
        edited = bool(_git('diff', '--name-only', 'HEAD', '--', '*.py'))
        return _git('rev-parse', '--short', 'HEAD') + '-dirty' * edited
    except FileNotFoundError:  # no git
        return ''


def _git(*arguments: str) -> str:
    return subprocess.run(['git', *arguments], cwd=_ROOT, capture_output=True, text=True, check=False).stdout.strip()
