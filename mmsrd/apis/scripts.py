"""``tools/train.py`` and ``tools/test.py``: the toolboxes' own, with a teacher.

The toolbox's script that is installed does the work, with all its flags; what is
added here is read from the command line first. The student's config, with the
``distill`` block in it, is handed over by a file of the same name in a temporary
folder, so names that derive from it (the work directory) stay as they would be.
"""
from __future__ import annotations

import sys
from typing import Sequence

from mmengine.config import Config

from ..errors import MMSRDError
from ..utils.dist import shows_tracebacks
from ..utils.zoo import config_path
from .command_line import (
    auto_resumed,
    distilled_config,
    parse_arguments,
    take_config,
    without_distillation,
    work_dir_of,
)
from .toolbox_scripts import run_toolbox_script


def train(argv: Sequence[str] | None = None) -> None:
    """Train a student: ``train.py CONFIG [--teacher ...] [flags of the toolbox's train.py]``."""
    args, rest = parse_arguments('train', argv)
    path = config_path(take_config(rest), 'config')
    config = distilled_config(path, args, rest)
    run_toolbox_script('train', config, path.name, auto_resumed(rest, config, path.name, args.auto_resume))


def test(argv: Sequence[str] | None = None) -> None:  # noqa: PT028  not a test of ours
    """Evaluate a checkpoint: ``test.py CONFIG CHECKPOINT [flags of the toolbox's test.py]``.

    The student needs no teacher for it, so none is built.
    """
    _, rest = parse_arguments('test', argv)
    path = config_path(take_config(rest), 'config')
    config = without_distillation(Config.fromfile(str(path)))
    config.work_dir = work_dir_of(config, path.name)
    # MMEngine writes the config into it, under this name: the training's, which distils, is to stay.
    run_toolbox_script('test', config, f'{path.stem}_test.py', rest)


def main(script: str) -> None:
    """Entry of ``tools/train.py`` and ``tools/test.py``.

    An error that users can fix prints its message alone and exits with status 2; ``MMSRD_TRACEBACK=1``
    in the environment shows the traceback.
    """
    try:
        {'train': train, 'test': test}[script]()
    except MMSRDError as e:
        if shows_tracebacks():
            raise
        print(f'{type(e).__name__}: {e}', file=sys.stderr, flush=True)
        raise SystemExit(2) from None
