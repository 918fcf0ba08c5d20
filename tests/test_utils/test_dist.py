"""What processes exchange."""
from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from mmsrd.compat.torch_versions import TORCH
from mmsrd.utils.dist import gather_stacked


@pytest.mark.parametrize('backend', ['gloo', pytest.param('nccl', marks=pytest.mark.skipif(
    TORCH < (2, 4), reason='not with gloo in older versions'))])
def test_gathered_and_stacked(tmp_path, monkeypatch, backend):
    """By the collective of either backend; gloo has both."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    monkeypatch.setattr(dist, 'get_backend', lambda: backend)
    x = torch.arange(6.0).view(2, 3).t()
    try:
        assert torch.equal(gather_stacked(x), x[None])
    finally:
        dist.destroy_process_group()
