"""The two ways in which checkpoints are read."""
from __future__ import annotations

import pytest

from mmsrd.compat import safe_checkpoints


@pytest.fixture(params=['allow-list of PyTorch', 'unpickler of mmsrd'])
def reader(request, monkeypatch):
    """Both ways of reading, the second being that of PyTorch before 2.4."""
    own = request.param == 'unpickler of mmsrd'
    if own:
        monkeypatch.setattr(safe_checkpoints, 'ALLOW_LIST', False)
    elif not safe_checkpoints.ALLOW_LIST:
        pytest.skip('this PyTorch has no allow-list')
