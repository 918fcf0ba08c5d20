"""The SRD loss in few passes over the features: Triton on CUDA, PyTorch's operators elsewhere."""
from .srd import BACKENDS, choose_backend, fused_srd, has_triton
from .srd_backend import MIN_ROWS, SRDBackend, SRDParams

__all__ = ['BACKENDS', 'MIN_ROWS', 'SRDBackend', 'SRDParams', 'choose_backend', 'fused_srd', 'has_triton']
