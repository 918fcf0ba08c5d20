"""Projectors, one a file, and the paper's diagnostics of them."""
from .base_projector import BaseProjector
from .linear_projector import LinearProjector
from .mlp_projector import MLPProjector

__all__ = ['BaseProjector', 'LinearProjector', 'MLPProjector']
