"""Files that are read while they are written, or after a kill."""
from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file that has its name only when it is complete; folders are made.

    Args:
        path: The file.
        text: Its content, written as UTF-8.

    Raises:
        OSError: The file system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.partial')
    part.write_text(text, encoding='utf-8')
    os.replace(part, path)
