"""Command line: the toolboxes' own ``train.py`` and ``test.py``, with a teacher.

The toolbox's script that is installed does the work, with all its flags; what is
added here is read from the command line first. The student's config, with the
``distill`` block in it, is handed over as a file of the same name in a temporary
folder, so names that derive from it (the work directory) stay as they would be.
"""
from __future__ import annotations

import argparse
import contextlib
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Sequence

from mmengine.config import Config

from .config import PRESETS
from .distributed import cpu_wrapper, init_gloo, on_cpu
from .errors import ConfigError, MissingPackageError, MMSRDError
from .zoo import config_path, package_files

RUNNER_TYPE = 'mmsrd.DistillRunner'
_TOOLBOXES = ('mmdet', 'mmpretrain')
_FLAGS_WITH_VALUE = ('--work-dir', '--launcher', '--local_rank', '--local-rank', '--out', '--out-item', '--show-dir',
                     '--wait-time', '--interval', '--resume', '--cfg-options')


def parser_for(script: str) -> argparse.ArgumentParser:
    """Arguments that ``script`` (``'train'`` or ``'test'``) has on top of the toolbox's own."""
    parser = argparse.ArgumentParser(
        prog=f'{script}.py', add_help=False, allow_abbrev=False,
        usage=f'{script}.py CONFIG {"" if script == "train" else "CHECKPOINT "}[--teacher CONFIG] [...]',
        description=f'{script} with mmsrd. CONFIG is a path or a model zoo name (mmdet::...); every other flag is '
                    f'that of the toolbox\'s own tools/{script}.py')
    unused = '' if script == 'train' else ' (accepted so that the arguments of train.py can be kept; not used)'
    parser.add_argument('--teacher', metavar='CONFIG', help='teacher config: a path or a zoo name' + unused)
    parser.add_argument('--teacher-checkpoint', metavar='PATH|URL|auto',
                        help="teacher weights; 'auto' takes the model zoo's" + unused)
    parser.add_argument('--distill-preset', choices=PRESETS, help='which taps and losses to use' + unused)
    return parser


def with_teacher(config: Config, teacher: str | None, checkpoint: str | None, preset: str | None) -> Config:
    """Put what the command line says into the config's ``distill`` block.

    Raises:
        ConfigError: There is a checkpoint or preset, but no teacher anywhere; or the
            config has chosen a runner that would ignore the block.
    """
    block = dict(config.get('distill') or {})
    if teacher is None and not block:
        given = next((f for f, v in (('--teacher-checkpoint', checkpoint), ('--distill-preset', preset)) if v), None)
        if given:
            raise ConfigError(f'{given} was given without --teacher, and the config has no `distill` block')
        return config
    if (teacher or checkpoint) and block.get('teachers'):
        raise ConfigError(f'{"--teacher" if teacher else "--teacher-checkpoint"}: the config has several '
                          '`distill.teachers`; set them there, or with --cfg-options distill.teachers.NAME.config=...')
    if teacher is not None:
        # The weights of the config's own teacher would not fit another one.
        block['teacher'] = dict(config=teacher, checkpoint='auto' if '::' in teacher else None)
    if checkpoint is not None:
        block['teacher'] = {**block.get('teacher', {}), 'checkpoint': checkpoint}
    if preset is not None:
        block.pop('losses', None)
        block['preset'] = preset
    runner_type = config.get('runner_type', RUNNER_TYPE)
    if runner_type == 'Runner':
        raise ConfigError.at('runner_type', runner_type, f'would ignore the `distill` block; write {RUNNER_TYPE!r}')
    config.runner_type = runner_type
    config.distill = block
    return config


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
        config.model_wrapper_cfg = cpu_wrapper(config)
    with tempfile.TemporaryDirectory(prefix='mmsrd-') as folder:
        handed_over = Path(folder) / name
        config.dump(str(handed_over))
        run_script(str(path), [str(handed_over), *arguments])


def take_config(arguments: list[str]) -> str:
    """Remove the config, the first positional argument, from a command line of the toolbox's script.

    Raises:
        ConfigError: There is none.
    """
    value_of: str | None = None
    for position, argument in enumerate(arguments):
        if argument.startswith('--'):
            value_of = argument
        elif value_of not in _FLAGS_WITH_VALUE:
            return arguments.pop(position)
        elif value_of != '--cfg-options':  # that one takes all up to the next flag
            value_of = None
    raise ConfigError(f'no config is given in {arguments}')


def _launcher(arguments: Sequence[str]) -> str:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument('--launcher', default='none')
    return str(options.parse_known_args(list(arguments))[0].launcher)


def train(argv: Sequence[str] | None = None) -> None:
    """Train a student: ``train.py CONFIG [--teacher ...] [flags of the toolbox's train.py]``."""
    args, rest = _parse('train', argv)
    path = config_path(take_config(rest), 'config')
    config = with_teacher(Config.fromfile(str(path)), args.teacher, args.teacher_checkpoint, args.distill_preset)
    run_toolbox_script('train', config, path.name, rest)


def test(argv: Sequence[str] | None = None) -> None:  # noqa: PT028  not a test of ours
    """Evaluate a checkpoint: ``test.py CONFIG CHECKPOINT [flags of the toolbox's test.py]``.

    The student needs no teacher for it, so none is built.
    """
    _, rest = _parse('test', argv)
    path = config_path(take_config(rest), 'config')
    config = Config.fromfile(str(path))
    config.pop('distill', None)
    if config.get('runner_type') == RUNNER_TYPE:
        config.pop('runner_type')
    run_toolbox_script('test', config, path.name, rest)


def _parse(script: str, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = parser_for(script)
    if not argv or '-h' in argv or '--help' in argv:
        parser.print_help()
        path = toolbox_script(toolbox_of(Config()), script)
        print(f'\nFlags of {path}:\n')
        with contextlib.suppress(SystemExit):  # argparse leaves that way after its help
            run_script(str(path), ['--help'])
        raise SystemExit(0 if argv else 2)
    return parser.parse_known_args(argv)


def main(script: str) -> None:
    """Entry of ``tools/train.py`` and ``tools/test.py``: user errors end with one line, not a traceback."""
    try:
        {'train': train, 'test': test}[script]()
    except MMSRDError as e:
        raise SystemExit(f'{type(e).__name__}: {e}') from None
