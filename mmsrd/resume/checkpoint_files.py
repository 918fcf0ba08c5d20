"""Checkpoint files that survive a kill at any moment.

MMEngine writes a checkpoint in place, deletes the oldest one before it, and then
overwrites ``last_checkpoint``. A process that is killed in between can leave half a
file, a pointer to nothing, or, with ``max_keep_ckpts=1``, no checkpoint at all.
"""
from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

from mmengine.dist import is_main_process

from ..errors import CheckpointError, StorageError

PARTIAL = '.partial'
"""Ending of a file that is being written."""
KEPT = '.newest_complete.pth'
"""Second name (hard link) of the newest checkpoint: its content outlives the deletion of the first."""
PREEMPTED = 'preempted.pth'
"""Name of the checkpoint of a run that a scheduler has ended."""
_DISK = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE
_NUMBERED = re.compile(r'(?:epoch|iter)_(\d+)\.pth$')


@contextlib.contextmanager
def atomic_write(folder: str, name: str, keep: bool) -> Iterator[str]:
    """Write a local checkpoint under another name, and rename it when it is complete.

    Any process may enter; the first one writes and renames.

    Args:
        folder: Folder of the file.
        name: Name of the file.
        keep: Whether the content is to outlive ``name``, until the next one is complete.

    Yields:
        str: The name to write to.

    Raises:
        OSError: The file system refuses; what was written of the file is removed then.
    """
    partial, target = Path(folder, name + PARTIAL), Path(folder, name)
    try:
        yield partial.name
        if not is_main_process():
            return
        with open(partial, 'rb') as file:
            os.fsync(file.fileno())  # a machine that goes down must not leave a name without content
        _rename(partial, target)
    except OSError:
        if is_main_process():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)  # where a disk is full it would keep it full
        raise
    if keep:
        _keep(target)


def _rename(partial: Path, target: Path) -> None:
    try:
        os.replace(partial, target)
    except OSError:
        # NFS repeats a request whose answer was lost, and the second one does not find the file.
        if partial.exists() or not is_complete(target):
            raise


def _keep(target: Path) -> None:
    link, fresh = target.with_name(KEPT), target.with_name(f'{KEPT}{PARTIAL}')
    with contextlib.suppress(OSError):
        fresh.unlink(missing_ok=True)
        try:
            os.link(target, fresh)
        except OSError:  # a file system without hard links
            try:
                shutil.copyfile(target, fresh)
            except OSError:  # no room for a copy, which would fill the disk: MMEngine's own guarantee remains
                fresh.unlink(missing_ok=True)
                raise
        os.replace(fresh, link)


@contextlib.contextmanager
def storage_errors(work_dir: Path, other_folders: Sequence[Path] = ()) -> Iterator[None]:
    """Raise an error that says what to do where the disk of a training fails.

    Args:
        work_dir: Work directory of the training.
        other_folders: Other folders that it saves checkpoints in; none by default.

    Raises:
        StorageError: Instead of an OSError about a full, failing or read-only disk, or about a file in these folders.
    """
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
        ours = path is not None and any(folder.resolve() in path.resolve().parents
                                        for folder in (work_dir, *other_folders))
        if isinstance(error, StorageError) or not (ours or error.errno in _DISK):
            raise
        try:
            newest = newest_complete(work_dir, other_folders)
        except (CheckpointError, OSError):
            newest = None
        advice = (f'The newest complete checkpoint is {newest}. When the disk can be written again, start the same '
                  'command with --resume to continue from it' if newest else
                  'There is no complete checkpoint; start again when the disk can be written')
        raise StorageError(f'{path or work_dir}: {error.strerror or error} during training. {advice}') from error


def is_complete(path: Path) -> bool:
    """Return whether a checkpoint file was written to its end, where the table of a zip archive is."""
    return path.is_file() and zipfile.is_zipfile(path)


def checkpoint_folders(work_dir: Path, out_dirs: Iterable[Any]) -> list[Path]:
    """Return local folders beside the work directory that ``CheckpointHook`` saves in.

    Args:
        work_dir: Work directory of the training; the last part of its path is added to each of ``out_dirs``.
        out_dirs: ``out_dir`` of each hook, as its config has it.
    """
    work_dir = work_dir.absolute()
    return [Path(str(out_dir), work_dir.name) for out_dir in out_dirs
            if out_dir is not None and '://' not in str(out_dir) and Path(str(out_dir)).absolute() != work_dir]


def newest_complete(work_dir: Path, other_folders: Sequence[Path] = ()) -> str | None:
    """Return the checkpoint that a run should resume from; None where it has saved none yet.

    It is the one that ``last_checkpoint`` names, if it is complete; else the one kept as :data:`KEPT`; else the one
    with the highest number. Where somebody has deleted the pointer and all that have a number, there is none.

    Args:
        work_dir: Work directory of the run.
        other_folders: Other folders that it saves checkpoints in (:func:`checkpoint_folders`); none by default.

    Raises:
        CheckpointError: There were checkpoints, and none is complete.
    """
    folders = list(dict.fromkeys((work_dir, *other_folders)))
    pointer = work_dir / 'last_checkpoint'
    named = pointer.read_text().strip() if pointer.is_file() else ''
    if '://' in named:
        return named  # in a storage service, where a name appears with its whole content
    numbered = [(int(match.group(1)), path) for folder in folders for path in folder.glob('*.pth')
                if (match := _NUMBERED.match(path.name))]
    kept = sorted((folder / KEPT for folder in folders if (folder / KEPT).exists()),
                  key=lambda path: path.stat().st_mtime, reverse=True)
    if not (named or numbered):
        return None
    candidates = [*([Path(named)] if named else []), *kept, *(path for _, path in sorted(numbered, reverse=True))]
    for path in candidates:
        if is_complete(path):
            return str(path)
    raise CheckpointError(f'resume: none of the checkpoints in {" and ".join(map(str, folders))} is complete '
                          f'({", ".join(dict.fromkeys(path.name for path in candidates))}); name another one, or '
                          'start anew without resume')


def remove_partial(folder: Path) -> None:
    """Remove files that killed processes have left half written; acts in the first process alone."""
    for path in folder.glob(f'*{PARTIAL}') if is_main_process() else ():
        path.unlink(missing_ok=True)
