"""The SRD loss."""
from __future__ import annotations

import copy
from typing import Sequence

import torch
from torch import Tensor

from ...config.checks import number, one_of
from ...errors import ConfigError, FeatureMismatchError
from ...ops import BACKENDS, MIN_ROWS, SRDParams, choose_backend, fused_srd, has_triton
from ...registry import MODELS
from . import functional as SF
from .base_loss import BaseDistillLoss, LossAndLogs

FORMS = ('elementwise', 'correlation')
REDUCTIONS = ('mean', 'sum')
NORMS = ('batch', 'spatial', 'l2', 'none')


@MODELS.register_module()
class SRDLoss(BaseDistillLoss):
    """Log-sum loss between standardised features (SRD, AAAI 2024).

    Args:
        alpha: Exponent of the soft maximum, at least 1. The paper uses 4 to 5
            for a large capacity gap.
        form: ``'elementwise'``: ``log(mean(|z - t| ** alpha) + 1e-8)``;
            ``'correlation'``: ``log(sum_c |rho_c - 1| ** alpha + 1e-5)``.
        reduction: ``'mean'`` or ``'sum'``, of the elementwise form.
        eps: Added to the variance in the standardisation, at least 0.
        sync: Standardise and sum over all processes when there are several, so
            that the loss is that of one process with the whole batch.
        backend: ``'triton'`` kernels, PyTorch's operators in ``'torch'``, the plain functions
            differentiated by ``'autograd'``, or ``'auto'``: Triton on CUDA, else PyTorch's. All give the same
            up to float32's rounding; with ``'autograd'`` only there are second derivatives.
        norm: ``'batch'``: as in the paper. ``'spatial'``: statistics over the positions of each image, as in the
            author's detection experiments, not shared between processes. ``'l2'`` (rows of unit length) and
            ``'none'`` are there for comparison, as in the paper's ablation; they have the ``'autograd'`` backend only.

    Raises:
        ConfigError: An argument is outside of what is listed.

    Example:
        >>> import torch
        >>> from mmsrd import SRDLoss
        >>> generator = torch.Generator().manual_seed(0)
        >>> teacher = torch.randn(4096, 16, generator=generator)
        >>> loss, logs = SRDLoss()(torch.randn(4096, 16, generator=generator), teacher)
        >>> round(float(loss), 1)   # unrelated features: about log 12
        2.5
        >>> loss, logs = SRDLoss()(-2 * teacher, -teacher)
        >>> round(float(logs['alignment']), 2)
        1.0
    """

    def __init__(self, alpha: float = 4.0, form: str = 'elementwise', reduction: str = 'mean', eps: float = 1e-4,
                 sync: bool = True, backend: str = 'auto', norm: str = 'batch') -> None:
        super().__init__(sync)
        self.alpha = number('alpha', alpha, at_least=1, meaning='with a smaller one the loss is not convex')
        self.form: str = one_of('form', form, FORMS)
        self.reduction: str = one_of('reduction', reduction, REDUCTIONS)
        self.eps = number('eps', eps, at_least=0)
        self.backend: str = one_of('backend', backend, BACKENDS)
        self.norm: str = one_of('norm', norm, NORMS)
        if norm != 'batch' and form == 'correlation':
            raise ConfigError.at('norm', norm, "form='correlation' needs norm='batch'")
        if backend == 'triton' and not has_triton():
            raise ConfigError.at('backend', backend, 'needs Triton 3.0 or newer; write \'auto\' to do without')
        self.min_rows = MIN_ROWS if norm in ('batch', 'spatial') else 1

    def check(self, student: Tensor, teacher: Tensor) -> None:
        """Say why two features cannot be compared, if so.

        Raises:
            FeatureMismatchError: The shapes differ, or the rank is not 2, 3 or 4; with ``norm='spatial'``, vectors.
        """
        super().check(student, teacher)
        if self.norm == 'spatial':
            _as_one_image(student)

    def with_backend(self, backend: str) -> SRDLoss:
        """See :class:`BaseDistillLoss`."""
        other = copy.copy(self)
        other.backend = backend
        return other

    def backend_for(self, levels: Sequence[tuple[Tensor, Tensor]]) -> str:
        """Return the name of the class that computes the loss of some levels."""
        students, teachers = zip(*levels)
        chosen = choose_backend(self.backend, students, teachers)
        return 'autograd' if chosen is None else chosen.__name__

    @property
    def shares_rows(self) -> bool:
        """See :class:`BaseDistillLoss`; statistics of an image are its own."""
        return super().shares_rows and self.norm != 'spatial'

    def rows_of(self, feature: Tensor) -> int:
        """See :class:`BaseDistillLoss`; with ``norm='spatial'``, positions of an image."""
        rows = super().rows_of(feature)
        return rows // max(feature.size(0), 1) if self.norm == 'spatial' else rows

    def compare_levels(self, levels: Sequence[tuple[Tensor, Tensor]], reduce: SF.Reduce) -> LossAndLogs:
        """Mean loss of the levels, and ``{'alignment': means of rho_c (levels,)}`` (1 aligned, 0 unrelated)."""
        if self.norm == 'spatial':  # each channel of each image becomes a channel by itself
            levels, reduce = [(_as_one_image(s), _as_one_image(t)) for s, t in levels], None
        students, teachers = zip(*levels)
        backend = choose_backend(self.backend, students, teachers) if self.norm in ('batch', 'spatial') else None
        if backend is None:
            return super().compare_levels(levels, reduce)
        params = SRDParams(self.alpha, self.form, self.reduction, self.eps, self.shares and self.norm == 'batch')
        loss, alignment = fused_srd(students, teachers, params, backend)
        return loss, {'alignment': alignment}

    def compare(self, student: Tensor, teacher: Tensor, reduce: SF.Reduce) -> LossAndLogs:
        """See :class:`BaseDistillLoss`; by PyTorch's autograd, also its logs (:meth:`compare_levels`)."""
        z, t = (SF.standardize(x, self.eps, reduce) for x in (student, teacher))
        if self.form == 'correlation':
            rho = SF.correlation(z, t, reduce)
            return self._counted(SF.correlation_log_sum(rho, self.alpha), z, reduce), {'alignment': rho.detach().mean()}
        with torch.no_grad():
            alignment = SF.correlation(z, t, reduce).mean()
        s, u = (z, t) if self.norm in ('batch', 'spatial') else (student, teacher)
        if self.norm == 'l2':
            s, u = SF.unit_rows(s), SF.unit_rows(u)
        return self._counted(SF.log_sum(s, u, self.alpha, self.reduction, reduce=reduce), z, reduce), \
            {'alignment': alignment}

    def _counted(self, value: Tensor, z: Tensor, reduce: SF.Reduce) -> Tensor:
        return SF.where_enough(value, z, self.min_rows, reduce)

    def extra_repr(self) -> str:
        return f'alpha={self.alpha:g}, form={self.form!r}, reduction={self.reduction!r}, sync={self.sync}'


def _as_one_image(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) or tokens (N, L, C) as (1, N·C, positions, 1); without a copy where strides allow.

    Raises:
        FeatureMismatchError: They are vectors, which have no positions.
    """
    if x.dim() == 2:
        raise FeatureMismatchError(f"SRDLoss(norm='spatial') got vectors {tuple(x.shape)}, which have no positions; "
                                   "use norm='batch'")
    maps = x.flatten(2) if x.dim() == 4 else x.transpose(1, 2)
    return maps.flatten(0, 1)[None, :, :, None]
