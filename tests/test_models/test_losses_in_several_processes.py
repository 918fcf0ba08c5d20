"""Several processes compute what one computes with the whole batch."""
from __future__ import annotations

import pytest
import torch
from helpers.losses_worker import Net, cases, share
from helpers.processes import launch


def rows(x):
    """All samples of a feature as rows of one matrix."""
    return x.flatten(0, 1) if x.dim() == 3 else x.transpose(1, -1).flatten(0, -2)


def together(net, shares, kind):
    """Loss of one process that has all shares; where they differ in size, of all their rows."""
    if kind != 'image sizes':
        return net(*(torch.cat(side) for side in zip(*shares)), kind)
    features = [net.features(*own, kind) for own in shares]
    return net.loss(*(torch.cat([rows(x) for x in side]) for side in zip(*features)))[0]


@pytest.mark.parametrize('processes', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_equal_one(tmp_path, processes):
    launch(processes, 'losses_worker.py', tmp_path / 'grads', True)
    got = [torch.load(f'{tmp_path}/grads.{rank}') for rank in range(processes)]
    for number, (loss, kind, sizes) in enumerate(cases(processes)):
        # The reference is exact (Triton would compute in float32), so the tolerance is that of the workers.
        net = Net('autograd' if loss == 'triton' else loss).double()
        shares = [tuple(x.double() for x in share(rank, kind, sizes)) for rank in range(processes)]
        expected = together(net, shares, kind)
        expected.backward()
        # Relative to the largest gradient of the network: that of the layer's bias is 0 but for cancellation,
        # because a shift of a channel is standardised away.
        scale = max(float(parameter.grad.abs().max()) for parameter in net.parameters())
        for rank in range(processes):
            result = {name: value.double() for name, value in got[rank][number].items()}
            message = f'{loss}, {kind}, {sizes}'
            torch.testing.assert_close(result['loss'], expected.detach(), rtol=1e-5, atol=1e-5, msg=message)
            for name, parameter in net.named_parameters():
                torch.testing.assert_close(result[name], parameter.grad, rtol=1e-5, atol=1e-5 * scale, msg=message)


@pytest.mark.slow
def test_without_sync_each_process_is_on_its_own(tmp_path):
    """The gradient is then the mean of those of the processes, each with its own statistics."""
    launch(2, 'losses_worker.py', tmp_path / 'grads', False)
    got = [torch.load(f'{tmp_path}/grads.{rank}') for rank in range(2)]
    for number, (loss, kind, sizes) in enumerate(cases(2, sync=False)):
        net = Net(loss, sync=False).double()
        for rank in range(2):
            own = net(*(x.double() for x in share(rank, kind, sizes)), kind)
            (own / 2).backward()
            torch.testing.assert_close(got[rank][number]['loss'].double(), own.detach(), rtol=1e-5, atol=1e-5)
        weight = net.projector.weight
        torch.testing.assert_close(got[0][number]['projector.weight'].double(), weight.grad, rtol=1e-5,
                                   atol=1e-5 * float(weight.grad.abs().max()))
