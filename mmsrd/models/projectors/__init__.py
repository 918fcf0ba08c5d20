"""Projectors, one a file, and the paper's diagnostics of them."""
from .base_projector import BaseProjector
from .linear_projector import LinearProjector
from .mlp_projector import MLPProjector
from .orthogonal_projector import OrthogonalProjector

__all__ = ['BaseProjector', 'LinearProjector', 'MLPProjector', 'OrthogonalProjector']
