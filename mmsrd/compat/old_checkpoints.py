"""Checkpoints of earlier versions of mmsrd."""
from __future__ import annotations

from typing import Any


def rename_old_keys(state: dict[str, Any], prefix: str, *args: Any) -> None:
    """Load hook of a distiller: version 0.1.0 has ``projectors.<loss>.…`` and ``criteria.<loss>.…``."""
    for part, new in (('projectors', 'projectors'), ('criteria', 'criterion')):
        start = f'{prefix}{part}.'
        for key in [key for key in state if key.startswith(start)]:
            name, _, rest = key[len(start):].partition('.')
            state[f'{prefix}losses.{name}.{new}.{rest}'] = state.pop(key)
