"""What processes exchange."""
from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
from helpers.processes import python
from trainings import free_port

from mmsrd.compat.torch_versions import TORCH
from mmsrd.utils.dist import gather_stacked, init_gloo


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


def test_gloo_under_slurm(tmp_path):
    """One task of one, with a stand-in for scontrol."""
    (tmp_path / 'scontrol').write_text('#!/bin/sh\necho localhost\n')
    (tmp_path / 'scontrol').chmod(0o755)
    code = ('from mmsrd.utils.dist import init_gloo; import torch.distributed as d; init_gloo("slurm"); '
            'print("TASK", d.get_rank(), d.get_world_size(), d.get_backend())')
    done = python('-c', code, PATH=f'{tmp_path}:{os.environ["PATH"]}', SLURM_NODELIST='n[0-1]', SLURM_PROCID='0',
                  SLURM_LOCALID='0', SLURM_NTASKS='1', MASTER_PORT=str(free_port()))
    assert 'TASK 0 1 gloo' in done.stdout


def test_gloo_is_not_for_other_launchers():
    init_gloo('none')
    assert not dist.is_initialized()
