"""State dicts of checkpoints and models."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import torch

from mmsrd.compat import load_checkpoint_file


def load(path: Path | str) -> dict[str, Any]:
    """A checkpoint, on the CPU and without running code from it."""
    return load_checkpoint_file(str(path), 'test')


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit, in keys and values."""
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def tensors_in(x: Any) -> list[torch.Tensor]:
    """All tensors in nested dicts, lists and tuples."""
    if torch.is_tensor(x):
        return [x]
    members = list(x.values()) if isinstance(x, Mapping) else x
    return [t for item in members for t in tensors_in(item)] if isinstance(members, (list, tuple)) else []
