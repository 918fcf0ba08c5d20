"""Losses chosen for a model where the config names none."""
from .base_preset import Preset
from .choose_preset import choose_preset, fitting_preset

__all__ = ['Preset', 'choose_preset', 'fitting_preset']
