"""Precision of computations whose inputs may be half or bfloat16."""
import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in at least float32; float32 and float64 come back as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
