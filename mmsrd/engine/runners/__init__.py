"""Runners of MMEngine that distil."""
from .distill_flexible_runner import DistillFlexibleRunner
from .distill_mixin import DistillMixin
from .distill_runner import DistillRunner

__all__ = ['DistillFlexibleRunner', 'DistillMixin', 'DistillRunner']
