"""The toolboxes' own ``tools/train.py`` and ``tools/test.py``, found and run in this process."""
from __future__ import annotations

import argparse
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Sequence

from mmengine.config import Config

from ..errors import MissingPackageError
from ..utils.dist import cpu_wrapper_cfg, init_gloo, on_cpu
from ..utils.zoo import package_files

_TOOLBOXES = ('mmdet', 'mmpretrain', 'mmseg', 'mmpose', 'mmrotate', 'mmyolo')


def toolbox_of(config: Config) -> str:
    """Package whose scripts suit ``config``: that of its default scope, else one that is installed.

    Raises:
        MissingPackageError: Neither toolbox is installed.
    """
    scope = config.get('default_scope')
    if scope in _TOOLBOXES:
        return str(scope)
    for package in _TOOLBOXES:
        try:
            package_files(package)
            return package
        except MissingPackageError:
            continue
    raise MissingPackageError(f'none of {", ".join(_TOOLBOXES)} is installed; install the one your config is for')


def toolbox_script(package: str, script: str) -> Path:
    """The installed ``tools/<script>.py`` of a toolbox.

    Raises:
        MissingPackageError: The toolbox is not installed, or without its scripts.
    """
    path = package_files(package) / 'tools' / f'{script}.py'
    if not path.is_file():
        raise MissingPackageError(f'{package} is installed without {path}; reinstall it with pip')
    return path


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a Python script in this process with a command line of its own."""
    original = sys.argv
    sys.argv = [path, *arguments]
    try:
        runpy.run_path(path, run_name='__main__')
    finally:
        sys.argv = original


def run_toolbox_script(script: str, config: Config, name: str, arguments: Sequence[str]) -> None:
    """Run the installed ``tools/<script>.py`` of the config's toolbox in this process.

    Args:
        script: ``'train'`` or ``'test'``.
        config: The config to run.
        name: File name that the config goes by.
        arguments: Command line after the config.

    Raises:
        MissingPackageError: The toolbox is not installed, or without its scripts.
    """
    path = toolbox_script(toolbox_of(config), script)
    if _launcher(arguments) == 'pytorch' and on_cpu():
        init_gloo()
        config.model_wrapper_cfg = cpu_wrapper_cfg(config)
    with tempfile.TemporaryDirectory(prefix='mmsrd-') as folder:
        handed_over = Path(folder) / name
        config.dump(str(handed_over))
        run_script(str(path), [str(handed_over), *arguments])


def _launcher(arguments: Sequence[str]) -> str:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument('--launcher', default='none')
    return str(options.parse_known_args(list(arguments))[0].launcher)
