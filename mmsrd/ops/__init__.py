"""The SRD loss in few passes over the features: Triton on CUDA, PyTorch's operators elsewhere."""
from .backend_choice import BACKENDS, choose_backend
from .base_backend import SRDBackend, SRDParams
from .channel_terms import MIN_ROWS
from .srd import fused_srd

__all__ = ['BACKENDS', 'MIN_ROWS', 'SRDBackend', 'SRDParams', 'choose_backend', 'fused_srd']
