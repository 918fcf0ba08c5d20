"""The SRD loss in few passes over the features: Triton on CUDA, PyTorch's operators elsewhere."""
from .choice import BACKENDS, choose_passes, has_triton
from .srd import Formula, fused_srd

__all__ = ['BACKENDS', 'Formula', 'choose_passes', 'fused_srd', 'has_triton']
