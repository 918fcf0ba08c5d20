"""Checkpoint files that survive a kill at any moment.

MMEngine writes a checkpoint in place, deletes the oldest one before it, and then
overwrites ``last_checkpoint``. A process that is killed in between can leave half a
file, a pointer to nothing, or, with ``max_keep_ckpts=1``, no checkpoint at all.
"""
from __future__ import annotations

import contextlib
import os
import re
import zipfile
from pathlib import Path
from typing import Any, Iterator

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from ...compat import load_checkpoint_file
from ...errors import CheckpointError
from ..loops import resumable

PARTIAL = '.partial'
"""Ending of a file that is being written."""
KEPT = '.newest_complete.pth'
"""Second name (hard link) of the newest checkpoint: its content outlives the deletion of the first."""
_NUMBERED = re.compile(r'(?:epoch|iter)_(\d+)\.pth$')


@contextlib.contextmanager
def atomic_write(folder: str, name: str, keep: bool) -> Iterator[str]:
    """Write a local checkpoint under another name, and give it its own when it is complete.

    Any process may enter; the first one writes and renames.

    Args:
        folder: Where to.
        name: Name of the file.
        keep: Whether the content is to outlive ``name``, until the next one is complete.

    Yields:
        str: The name to write to.
    """
    partial, target = Path(folder, name + PARTIAL), Path(folder, name)
    yield partial.name
    if not is_main_process():
        return
    with open(partial, 'rb') as file:
        os.fsync(file.fileno())  # a machine that goes down must not leave a name without content
    os.replace(partial, target)
    if keep:
        link = target.with_name(KEPT)
        with contextlib.suppress(OSError):  # a file system without hard links: MMEngine's own guarantee remains
            fresh = link.with_name(f'{KEPT}{PARTIAL}')
            fresh.unlink(missing_ok=True)
            os.link(target, fresh)
            os.replace(fresh, link)


def is_complete(path: Path) -> bool:
    """Whether a checkpoint file was written to its end: the table of a zip archive stands there."""
    return path.is_file() and zipfile.is_zipfile(path)


def newest_complete(folder: Path) -> str | None:
    """The checkpoint that a run in ``folder`` should resume from; None where it has saved none yet.

    That which ``last_checkpoint`` names, if it is complete; else the one kept as :data:`KEPT`; else the one with the
    highest number.

    Raises:
        CheckpointError: There were checkpoints, and none is complete.
    """
    pointer = folder / 'last_checkpoint'
    named = pointer.read_text().strip() if pointer.is_file() else ''
    if '://' in named:
        return named  # in a storage service, where a name appears with its whole content
    numbered = [(int(match.group(1)), path) for path in folder.glob('*.pth') if (match := _NUMBERED.match(path.name))]
    kept = [folder / KEPT] if (folder / KEPT).exists() else []
    candidates = [*([Path(named)] if named else []), *kept, *(path for _, path in sorted(numbered, reverse=True))]
    for path in candidates:
        if is_complete(path):
            return str(path)
    if candidates:
        raise CheckpointError(f'resume: none of the checkpoints in {folder} is complete '
                              f'({", ".join(dict.fromkeys(path.name for path in candidates))}); name another one, or '
                              'start anew without resume')
    return None


def automatic_resume(folder: Path) -> str | None:
    """:func:`newest_complete`, said in the log; removes what killed processes have left half written.

    Raises:
        CheckpointError: There were checkpoints, and none is complete.
    """
    found = newest_complete(folder)
    for path in folder.glob(f'*.pth{PARTIAL}') if is_main_process() else ():
        path.unlink(missing_ok=True)
    print_log(f'Automatic resume: {found or "there is no checkpoint yet"}', logger='current')
    return found


class AtomicCheckpointMixin:
    """Checkpoints that are complete or absent; stands before a runner of MMEngine among the bases."""

    distill_setup: Any
    work_dir: Any
    _resume: Any
    _load_from: Any
    _has_loaded: bool

    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: Any = None, **kwargs: Any) -> None:
        """As MMEngine's, but a local file appears under its name only when it is complete."""
        save = super().save_checkpoint  # type: ignore[misc]
        if '://' in out_dir or file_client_args or kwargs.get('backend_args'):
            save(out_dir, filename, file_client_args, **kwargs)
            return
        with atomic_write(out_dir, filename, keep=kwargs.get('save_optimizer', True)) as partial:
            save(out_dir, partial, **kwargs)

    def build_train_loop(self, loop: Any) -> Any:
        """As MMEngine's, but its own two loops resume exactly, unless ``distill.exact_resume`` is False."""
        exact = self.distill_setup.config.exact_resume
        return super().build_train_loop(resumable(loop) if exact else loop)  # type: ignore[misc]

    def resumes_from(self) -> str | None:
        """Path of the checkpoint that training will go on from; None where it begins anew.

        Raises:
            CheckpointError: Checkpoints were saved, and none is complete.
        """
        if not self._resume:
            return None
        named = self._resume if isinstance(self._resume, str) else self._load_from
        return named or newest_complete(Path(self.work_dir))

    def load_or_resume(self) -> None:
        """As MMEngine's, but an automatic resume takes the newest checkpoint that is complete.

        Raises:
            CheckpointError: Checkpoints were saved, and none is complete; or a file holds other objects than
                tensors and MMEngine's own, which could run code when they are loaded.
        """
        if self._resume and not isinstance(self._resume, str) and self._load_from is None:
            self._load_from = automatic_resume(Path(self.work_dir))
            self._resume = self._load_from is not None
        key = 'resume' if isinstance(self._resume, str) else 'load_from'
        path = self._resume if key == 'resume' else self._load_from
        if not self._has_loaded and isinstance(path, str) and Path(path).is_file():
            # Before PyTorch 2.6, and in the onedl fork on any version, MMEngine reads whatever is in a file.
            load_checkpoint_file(path, key)
        super().load_or_resume()  # type: ignore[misc]
