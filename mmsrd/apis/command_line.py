"""Arguments of ``tools/train.py`` and ``tools/test.py`` beside those of the toolboxes' own scripts."""
from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any, Sequence

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from ..distillers.presets import check_preset
from ..engine.runners import DistillMixin
from ..errors import ConfigError
from ..resume import ResumeMixin
from ..resume.checkpoint_files import checkpoint_folders, newest_complete
from .toolbox_scripts import run_script, toolbox_of, toolbox_script

RUNNER_TYPE = 'mmsrd.DistillRunner'
FLEXIBLE_RUNNER_TYPE = 'mmsrd.DistillFlexibleRunner'
_FLAGS_WITH_VALUE = ('--work-dir', '--launcher', '--local_rank', '--local-rank', '--out', '--out-item', '--show-dir',
                     '--wait-time', '--interval', '--resume', '--cfg-options')


def parser_for(script: str) -> argparse.ArgumentParser:
    """Arguments that ``script`` (``'train'`` or ``'test'``) has on top of the toolbox's own."""
    parser = argparse.ArgumentParser(
        prog=f'{script}.py', add_help=False, allow_abbrev=False,
        usage=f'{script}.py CONFIG {"" if script == "train" else "CHECKPOINT "}[--teacher CONFIG] [...]',
        description=f'{script} with mmsrd. CONFIG is a path or a model zoo name (mmdet::...); all other flags '
                    f'are those of the toolbox\'s own tools/{script}.py')
    unused = '' if script == 'train' else ' (not used; accepted so that the arguments of train.py work here, too)'
    parser.add_argument('--teacher', metavar='CONFIG', help='teacher config: a path or a zoo name' + unused)
    parser.add_argument('--teacher-checkpoint', metavar='PATH|URL|auto',
                        help="teacher weights; 'auto' uses those published for it" + unused)
    parser.add_argument('--distill-preset', help='preset of taps and losses, such as detection or '
                        "classification; by default that of the student's task" + unused)
    if script == 'train':
        parser.add_argument('--auto-resume', action='store_true',
                            help='resume if the work directory has a checkpoint; for jobs that are restarted')
    return parser


def parse_arguments(script: str, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Split a command line into mmsrd's arguments and those of the toolbox's script; ``--help`` shows both."""
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


def work_dir_of(config: Config, name: str) -> str:
    """Work directory of a config that goes by a file name, where the command line gives none."""
    return str(config.get('work_dir') or f'work_dirs/{Path(name).stem}')


def auto_resumed(arguments: Sequence[str], config: Config, name: str, restarts: bool) -> list[str]:
    """Arguments for the toolbox's script that resume where the work directory has a checkpoint, else start anew.

    ``load_from`` is for the first start alone: MMEngine would resume from it.

    Args:
        arguments: Command line after the config.
        config: The config, with what ``--cfg-options`` says; its ``load_from`` is removed where training resumes.
        name: File name that the config goes by.
        restarts: Whether to resume without a ``--resume`` in the command line, too; one that names a checkpoint is then
            for the first start alone.

    Raises:
        CheckpointError: There are checkpoints, and none is complete.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument('--work-dir', default=work_dir_of(config, name))
    own.add_argument('--resume', nargs='?', const='auto')
    own.add_argument('--cfg-options', nargs='+')  # MMPretrain's script would read load_from in it after --resume
    given, rest = own.parse_known_args(list(arguments))
    if not restarts and given.resume != 'auto':
        return list(arguments)
    work_dir = Path(given.work_dir)
    hook = config.get('default_hooks', {}).get('checkpoint') or {}
    resumes = newest_complete(work_dir, checkpoint_folders(work_dir, [hook.get('out_dir')])) is not None
    if resumes:
        config.load_from = None
    elif given.resume != 'auto':
        return list(arguments)
    return [*rest, f'--work-dir={work_dir}', *(['--resume'] if resumes else [])]


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
    raise ConfigError(f'no config is given in {arguments}; write a path or a zoo name (mmdet::...) first')


def with_teacher(config: Config, teacher: str | None, checkpoint: str | None, preset: str | None) -> Config:
    """Put what the command line says into the config's ``distill`` block.

    Args:
        config: The student's config; it is changed.
        teacher: ``--teacher``, if given.
        checkpoint: ``--teacher-checkpoint``, if given.
        preset: ``--distill-preset``, if given.

    Raises:
        ConfigError: There is a checkpoint or preset, but no teacher anywhere; or the
            config has chosen a runner that would ignore the block.
    """
    block = dict(config.get('distill') or {})
    if preset is not None:
        check_preset(preset)
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
    runner_type = config.get('runner_type')
    if runner_type is None:
        config.runner_type = RUNNER_TYPE
    elif not distils(runner_type):
        name = getattr(runner_type, '__name__', runner_type)
        wanted = FLEXIBLE_RUNNER_TYPE if 'Flexible' in name else RUNNER_TYPE
        raise ConfigError.at('runner_type', name, f'would ignore the `distill` block; write {wanted!r}, or a class '
                             'that is derived from it')
    if (teacher, checkpoint, preset) != (None, None, None):
        config.distill = block
    return config


def runner_class(runner_type: str | type[Any]) -> type[Any] | None:
    """Class of a ``runner_type``; None where none is registered, which MMEngine has to say."""
    found = RUNNERS.get(runner_type) if isinstance(runner_type, str) else runner_type
    return found if isinstance(found, type) else None


def distils(runner_type: str | type[Any]) -> bool:
    """Return whether runners of a ``runner_type`` read the ``distill`` block."""
    found = runner_class(runner_type)
    return found is None or issubclass(found, DistillMixin)


def without_distillation(config: Config) -> Config:
    """A config that tests the student alone: without the block, and with the runner that the distilling one is."""
    config.pop('distill', None)
    found = runner_class(config.get('runner_type', 'Runner'))
    if found is not None and issubclass(found, DistillMixin):
        plain = next(kind for kind in found.__mro__ if not issubclass(kind, (DistillMixin, ResumeMixin)))
        config.runner_type = plain.__name__ if plain in (Runner, FlexibleRunner) else plain
    return config


def distilled_config(path: Path, args: argparse.Namespace, arguments: Sequence[str]) -> Config:
    """A config with all that a command line says of it: ``--cfg-options`` and the teacher.

    Args:
        path: File of the config.
        args: What :func:`parser_for` reads.
        arguments: The command line.

    Raises:
        ConfigError: As :func:`with_teacher`.
    """
    config = with_options(Config.fromfile(str(path)), arguments)  # which may be the block
    config = with_teacher(config, args.teacher, args.teacher_checkpoint, args.distill_preset)
    return with_options(config, arguments)  # or of a teacher that replaces the config's


def with_options(config: Config, arguments: Sequence[str]) -> Config:
    """A config with what ``--cfg-options`` says."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    config.merge_from_dict(own.parse_known_args(list(arguments))[0].cfg_options)
    return config
