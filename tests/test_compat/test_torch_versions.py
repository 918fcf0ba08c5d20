"""Differences between versions of PyTorch."""
from __future__ import annotations

import torch

from mmsrd.compat.torch_versions import TORCH, autocast, autocast_dtype


def test_no_autocast():
    one = torch.eye(2)
    with torch.autocast('cpu', torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
        assert autocast_dtype(one.device) == torch.bfloat16
        with autocast(one.device):
            assert (one @ one).dtype == torch.float32
            assert autocast_dtype(one.device) is None


def test_a_device_that_has_no_autocast(monkeypatch):
    """MPS until PyTorch 2.5."""
    def refuse(*args, **kwargs):
        raise RuntimeError("User specified an unsupported autocast device_type 'mps'")

    monkeypatch.setattr(torch, 'autocast', refuse)
    if TORCH >= (2, 4):
        monkeypatch.setattr(torch, 'is_autocast_enabled', refuse)
    with autocast(torch.device('mps')):
        pass
    assert autocast_dtype(torch.device('mps')) is None
