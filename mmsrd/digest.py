"""Checksum of a model's weights."""
from __future__ import annotations

import zlib

import torch
from torch import nn


def weights_digest(model: nn.Module) -> int:
    """CRC-32 over names and values of all parameters and buffers: it says which weights, whatever the file's path."""
    digest = 0
    for name, value in sorted(model.state_dict().items()):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest = zlib.crc32(raw.data, zlib.crc32(name.encode(), digest))
    return digest
