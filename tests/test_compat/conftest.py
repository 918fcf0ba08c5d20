"""The two ways in which checkpoints are read."""
from __future__ import annotations

import pytest

from mmsrd.compat import safe_checkpoints


@pytest.fixture(params=['allow-list of PyTorch', 'unpickler of mmsrd'])
def reader(request, monkeypatch):
    """Both ways of reading, the second being that of PyTorch before 2.14."""
    own = request.param == 'unpickler of mmsrd'
    if own:
        monkeypatch.setattr(safe_checkpoints, 'PYTORCH_READS', False)
    elif not safe_checkpoints.PYTORCH_READS:
        pytest.skip('this PyTorch does not read checkpoints by itself')
