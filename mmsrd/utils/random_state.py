"""Random states of a process: kept while mmsrd builds something, and as tensors that a checkpoint can hold."""
from __future__ import annotations

import contextlib
import random
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor

_WORDS = 624
"""Of the Mersenne Twister, which Python and NumPy use."""
_LAYOUT = np.dtype([('torch', np.uint8, (torch.get_rng_state().numel(),)),
                    ('python', np.uint32, (_WORDS + 1,)), ('python_gauss', np.float64), ('python_has_gauss', np.uint8),
                    ('numpy', np.uint32, (_WORDS,)), ('numpy_position', np.int64), ('numpy_gauss', np.float64),
                    ('numpy_has_gauss', np.uint8)])
STATE_SIZE = _LAYOUT.itemsize
"""Bytes of a state."""


def random_state() -> Tensor:
    """Random states of Python, NumPy and PyTorch (CPU) in this process.

    Returns:
        Tensor: uint8, (:data:`STATE_SIZE`,), on the CPU.

    Example:
        >>> import random
        >>> from mmsrd.utils.random_state import random_state, set_random_state
        >>> before = random_state()
        >>> first = random.random()
        >>> set_random_state(before)
        >>> random.random() == first
        True
    """
    state = np.zeros((), _LAYOUT)
    _, state['python'], gauss = random.getstate()
    numpy: Any = np.random.get_state()
    _, state['numpy'], state['numpy_position'], state['numpy_has_gauss'], state['numpy_gauss'] = numpy
    state['torch'] = torch.get_rng_state().numpy()
    state['python_has_gauss'], state['python_gauss'] = gauss is not None, gauss or 0.0
    return torch.frombuffer(bytearray(state.tobytes()), dtype=torch.uint8)


def set_random_state(state: Tensor) -> None:
    """Set what :func:`random_state` has returned, in this or another process.

    Args:
        state: uint8, (:data:`STATE_SIZE`,), on the CPU.
    """
    entry = np.frombuffer(state.numpy().tobytes(), _LAYOUT)[0]
    gauss = float(entry['python_gauss']) if entry['python_has_gauss'] else None
    random.setstate((3, tuple(entry['python'].tolist()), gauss))
    np.random.set_state(('MT19937', entry['numpy'], int(entry['numpy_position']), int(entry['numpy_has_gauss']),
                         float(entry['numpy_gauss'])))
    torch.set_rng_state(torch.from_numpy(entry['torch'].copy()))


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore Python's, NumPy's and PyTorch's random states (CPU and CUDA) on exit."""
    state = random_state()
    initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if initialised else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            set_random_state(state)
