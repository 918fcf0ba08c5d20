"""Checksum of a model's weights."""
from __future__ import annotations

import zlib

import torch
from torch import nn


def weights_checksum(model: nn.Module) -> int:
    """CRC-32 over names and values of all parameters and buffers: it tells weights apart, whatever the file's path."""
    checksum = 0
    for name, value in sorted(model.state_dict().items()):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        checksum = zlib.crc32(raw.data, zlib.crc32(name.encode(), checksum))
    return checksum
