"""What is installed, whether it is new enough, and what each feature will use: ``python -m mmsrd.env``."""
from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Callable, NamedTuple

from ..errors import UnsupportedVersionError


class Package(NamedTuple):
    """A package that mmsrd works with.

    Attributes:
        name: Name to import.
        distributions: Names on the package index that provide it, the original first.
        oldest: Oldest version that mmsrd runs with; empty for any.
        needed: Whether nothing works without it.
        install: Command that installs it where there is none.
    """

    name: str
    distributions: tuple[str, ...]
    oldest: str = ''
    needed: bool = False
    install: str = ''


TRITON = '3.0'
"""Oldest version of Triton that the kernels are written for; with an older one PyTorch's operators are used."""
PACKAGES = (
    Package('torch', ('torch',), '2.0', True, 'pip install torch torchvision'),
    Package('torchvision', ('torchvision',), '0.15', False, 'pip install torchvision, in the version for your torch'),
    Package('triton', ('triton',), TRITON, False, 'comes with torch on Linux, in the version that fits it'),
    Package('numpy', ('numpy',), '', True, 'pip install numpy'),
    Package('mmengine', ('mmengine', 'mmengine-lite', 'onedl-mmengine'), '0.8', True, 'pip install mmengine'),
    Package('mmcv', ('mmcv', 'mmcv-lite', 'onedl-mmcv', 'mmcv-full'), '2.0', False,
            "pip install 'mmcv-lite>=2.0,<2.2', or compiled: pip install -U openmim && mim install 'mmcv>=2.0,<2.2'"),
    Package('mmdet', ('mmdet', 'onedl-mmdetection'), '3.0', False, "pip install 'mmdet>=3.0,<3.4' pycocotools"),
    Package('mmpretrain', ('mmpretrain', 'onedl-mmpretrain'), '1.0', False, "pip install 'mmpretrain>=1.0'"),
    Package('pycocotools', ('pycocotools',), '', False, 'pip install pycocotools'),
    Package('timm', ('timm',), '', False, 'pip install timm'),
)


class Found(NamedTuple):
    """Installed package: under which name, in which version."""

    distribution: str
    version: str


def find(package: Package) -> Found | None:
    """Return what is installed of ``package``, without importing it; None where nothing is."""
    for distribution in package.distributions:
        try:
            number = version(distribution)
        except PackageNotFoundError:
            continue
        if number:  # remains of a package that was removed by hand have none
            return Found(distribution, number)
    return None


def is_older(found: str, oldest: str) -> bool:
    """Return whether version ``found`` is older than ``oldest``, by the numbers that ``oldest`` has."""
    limit = [int(part) for part in oldest.split('.')] if oldest else []
    numbers = [int(''.join(filter(str.isdigit, part)) or 0) for part in found.split('+')[0].split('.')[:len(limit)]]
    return numbers + [0] * (len(limit) - len(numbers)) < limit


def check_versions() -> None:
    """Refuse versions that mmsrd cannot run with; called when it is imported.

    Raises:
        UnsupportedVersionError: One is too old, or missing and needed; the message says what works.
    """
    problems = []
    for package in PACKAGES:
        found = find(package)
        if found is None:
            # Builds of one's own may come without metadata.
            if package.needed and importlib.util.find_spec(package.name) is None:
                problems.append(f'{package.name} is not installed ({package.install})')
        elif is_older(found.version, package.oldest) and (package.needed or package.name == 'mmcv'):
            problems.append(f'{found.distribution} {found.version} is too old; {package.name} {package.oldest} or '
                            f'newer works ({package.install})')
    if problems:
        raise UnsupportedVersionError(f'mmsrd cannot run here: {"; ".join(problems)}')


def report() -> str:
    """Versions found, what each feature will use, and what is missing with the command that helps."""
    lines, missing = [], []
    for package in PACKAGES:
        found = find(package)
        if found is None:
            lines.append(f'{package.name:<11} not found')
            missing.append(f'{package.name}: {package.install}')
        else:
            old = is_older(found.version, package.oldest)
            other = f'  ({found.distribution})' if found.distribution != package.name else ''
            lines.append(f'{package.name:<11} {found.version}{other}'
                         + f'  too old: {package.oldest} or newer works' * old)
            missing += [f'{package.name}: {package.install}'] * (old and package.name != 'triton')
    lines += ['', *_machine(), '', *(f'{name}: {_said(uses)}' for name, uses in FEATURES.items())]
    if missing:
        lines += ['', 'Missing (install what you need):', *(f'  {line}' for line in missing)]
    return '\n'.join(lines)


def _said(uses: Callable[[], str]) -> str:
    try:
        return uses()
    except Exception as e:  # a package that does not import is what the report is for
        return f'unknown ({type(e).__name__}: {e})'


def _machine() -> list[str]:
    """Return what MMEngine says of Python, the compilers and the devices; packages are listed before."""
    try:
        from mmengine.utils.dl_utils import collect_env
        found = collect_env()
    except Exception as e:
        return [f'Machine: unknown ({type(e).__name__}: {e})']
    listed = {package.name for package in PACKAGES}
    return [f'{name}: {value}' for name, value in {'Interpreter': sys.executable, **found}.items()
            if name.lower() not in listed and name not in ('PyTorch', 'PyTorch compiling details', 'numpy_random_seed')]


def _operators() -> str:
    if importlib.util.find_spec('mmcv') is None:
        return 'none, mmcv is not installed'
    from ..compat import has_compiled_ops
    return "mmcv's own, compiled" if has_compiled_ops() else \
        'torchvision and PyTorch instead, because this mmcv has no compiled operators'


def _loss() -> str:
    import torch

    from ..ops import has_triton
    return 'Triton kernels on the GPU' if torch.cuda.is_available() and has_triton() else "PyTorch's operators"


def _checkpoints() -> str:
    from ..compat.safe_checkpoints import PYTORCH_READS
    return "PyTorch's restricted unpickler" if PYTORCH_READS else "mmsrd's restricted unpickler"


def _compile() -> str:
    from ..compat.torch_versions import TORCH
    return 'works; hooks are not compiled' if TORCH >= (2, 1) else 'not tested with this PyTorch; 2.1 or newer works'


FEATURES: dict[str, Callable[[], str]] = {
    'Operators of mmcv': _operators, 'SRD loss': _loss, 'Checkpoints are read by': _checkpoints,
    'torch.compile of students': _compile}
