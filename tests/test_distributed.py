"""Two processes compute what one computes with the whole batch."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_worker import Net, data

WORKER = Path(__file__).parent / 'distributed_worker.py'


@pytest.mark.parametrize(('form', 'pool', 'sizes'), [
    ('elementwise', False, [3, 2]), ('correlation', True, [5, 3])])
def test_two_processes_equal_one(tmp_path, form, pool, sizes):
    out = tmp_path / 'grads'
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29617',
                    str(WORKER), form, str(pool), ','.join(map(str, sizes)), str(out)],
                   check=True, capture_output=True, timeout=120)
    net = Net(form)
    shares = [data(rank, sizes) for rank in range(2)]
    loss = net(torch.cat([s[0] for s in shares]), torch.cat([s[1] for s in shares]), pool)
    loss.backward()
    # Relative to the largest gradient of the network: that of the layer's bias is 0 but for cancellation,
    # because a shift of a channel is standardised away.
    scale = max(float(parameter.grad.abs().max()) for parameter in net.parameters())
    for rank in range(2):
        got = torch.load(f'{out}.{rank}')
        torch.testing.assert_close(got['loss'], loss.detach(), rtol=1e-5, atol=0)
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-5, atol=1e-5 * scale)
