"""Registered modules: losses, projectors, and models that the toolboxes lack.

Configs name them with their scope: ``backbone=dict(type='mmsrd.CifarResNet', depth=20)``.
"""
from . import backbones, heads, losses, projectors

__all__ = ['backbones', 'heads', 'losses', 'projectors']
