"""The toolboxes' own ``tools/train.py`` and ``tools/test.py``, found and run in this process."""
from __future__ import annotations

import argparse
import copy
import re
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any, Sequence

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject

from ..errors import MissingPackageError
from ..utils.dist import cpu_wrapper_cfg, init_gloo, on_cpu
from ..utils.zoo import TOOLBOXES, package_files


def toolbox_of(config: Config) -> str:
    """Package whose scripts suit ``config``: that of its default scope, else one that is installed.

    Raises:
        MissingPackageError: No toolbox is installed.
    """
    scope = config.get('default_scope')
    if scope in TOOLBOXES:
        return str(scope)
    for package in TOOLBOXES:
        try:
            package_files(package)
            return package
        except MissingPackageError:
            continue
    raise MissingPackageError(f'none of {", ".join(TOOLBOXES)} is installed; install the one your config is for')


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
        name: File name that the config goes by; the work directory's name derives from it.
        arguments: Command line after the config.

    Raises:
        MissingPackageError: The toolbox is not installed, or without its scripts.
    """
    path = toolbox_script(toolbox_of(config), script)
    if _launcher(arguments) == 'pytorch' and on_cpu():
        init_gloo()
        config.model_wrapper_cfg = cpu_wrapper_cfg(config)
    with tempfile.TemporaryDirectory(prefix='mmsrd-') as folder:
        handed_over = Path(folder, name).with_suffix('.py')
        handed_over.write_text(config_stub(config))
        run_script(str(_asking_for_the_runner(path, Path(folder))), [str(handed_over), *arguments])


def _asking_for_the_runner(script: Path, folder: Path) -> Path:
    """The script, or a copy of it that makes the runner of the config's ``runner_type``; MMPose's makes MMEngine's."""
    source = script.read_text(encoding='utf-8')
    if 'runner_type' in source:
        return script
    registry = "__import__('mmengine.registry', fromlist=['RUNNERS']).RUNNERS"
    copied = folder / 'scripts' / script.name  # apart from the config, which may have its name
    copied.parent.mkdir()
    copied.write_text(re.sub(r'\bRunner\.from_cfg\(', f'{registry}.build(', source), encoding='utf-8')
    return copied


_HANDED_OVER: dict[str, Any] = {}


def handed_over() -> dict[str, Any]:
    """Entries of the config that :func:`run_toolbox_script` runs, as they are; called by the file that it writes."""
    return copy.deepcopy(_HANDED_OVER)


def config_stub(config: Config) -> str:
    """A config file that reads as ``config`` in this process.

    ``Config.dump`` would sort dicts, and with them losses and tasks, whose parameters an optimizer knows by their
    order; and it writes classes and infinite numbers in a way that cannot be read.
    """
    _HANDED_OVER.clear()
    for key, text in config.to_dict().items():  # without names that a pure-Python config has imported
        entry = config[key]
        _HANDED_OVER[key] = entry if isinstance(entry, (dict, list, tuple)) else text
    # MMEngine takes a file with an import for a pure-Python config, whose classes are imported when they are needed.
    imports = 'from mmsrd.version import __version__\n' if _has_lazy_objects(_HANDED_OVER) else ''
    return f'{imports}globals().update(__import__({__name__!r}, fromlist=["handed_over"]).handed_over())\n'


def _has_lazy_objects(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_lazy_objects(entry) for entry in dict.values(value))
    if isinstance(value, (list, tuple)):
        return any(map(_has_lazy_objects, value))
    return isinstance(value, (LazyAttr, LazyObject))


def _launcher(arguments: Sequence[str]) -> str:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument('--launcher', default='none')
    return str(options.parse_known_args(list(arguments))[0].launcher)
