"""Distillation losses: registered modules over :mod:`mmsrd.functional`.

A distillation loss is called with a student and a teacher feature of one shape
and returns ``(loss, logs)``: a scalar to minimise and a dict of detached scalars
that are logged as ``srd_<key>/<name>``.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from . import functional as SF
from .distributed import reduction
from .errors import ConfigError, FeatureMismatchError
from .kernels import BACKENDS, Formula, choose_passes, fused_srd, has_triton
from .registry import MODELS

FORMS = ('elementwise', 'correlation')
REDUCTIONS = ('mean', 'sum')
NORMS = ('batch', 'l2', 'none')


@MODELS.register_module()
class SRDLoss(nn.Module):
    """Log-sum loss between standardised features (SRD, AAAI 2024).

    Args:
        alpha: Exponent of the soft maximum, at least 1. The paper uses 4 to 5
            for a large capacity gap.
        form: ``'elementwise'``: ``log(mean(|z - t| ** alpha) + 1e-8)``;
            ``'correlation'``: ``log(sum_c |rho_c - 1| ** alpha + 1e-5)``.
        reduction: ``'mean'`` or ``'sum'``, of the elementwise form.
        eps: Added to the variance in the standardisation.
        sync: Standardise and sum over all processes when there are several, so
            that the loss is that of one process with the whole batch.
        backend: ``'triton'`` kernels, PyTorch's operators in ``'torch'``, the plain functions
            differentiated by ``'autograd'``, or ``'auto'``: Triton on CUDA, else PyTorch's. All give the same
            up to float32's rounding; with ``'autograd'`` only there are second derivatives.
        norm: ``'batch'``: what the method is. ``'l2'`` (rows of unit length) and ``'none'`` are there for
            comparison, as in the paper's ablation; they have the ``'autograd'`` backend only.

    Raises:
        ConfigError: An argument is outside of what is listed.
    """

    def __init__(self, alpha: float = 4.0, form: str = 'elementwise', reduction: str = 'mean', eps: float = 1e-4,
                 sync: bool = True, backend: str = 'auto', norm: str = 'batch') -> None:
        super().__init__()
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 1 <= alpha < float('inf'):
            raise ConfigError.at('alpha', alpha, 'must be a number of at least 1 (the loss is not convex below)')
        for key, value, accepted in (('form', form, FORMS), ('reduction', reduction, REDUCTIONS),
                                     ('backend', backend, BACKENDS), ('norm', norm, NORMS)):
            if value not in accepted:
                raise ConfigError.at(key, value, f'must be one of {", ".join(map(repr, accepted))}')
        if norm != 'batch' and form == 'correlation':
            raise ConfigError.at('norm', norm, "the correlation form needs 'batch'")
        if backend == 'triton' and not has_triton():
            raise ConfigError.at('backend', backend, 'Triton is not installed; write \'auto\', or pip install triton')
        if not isinstance(eps, (int, float)) or not 0 <= eps < float('inf'):
            raise ConfigError.at('eps', eps, 'must be a finite number of at least 0')
        if not isinstance(sync, bool):
            raise ConfigError.at('sync', sync, 'must be True or False')
        self.alpha = float(alpha)
        self.form = form
        self.reduction = reduction
        self.eps = float(eps)
        self.sync = sync
        self.backend = backend
        self.norm = norm

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare two features of one shape; computed in float32 also under autocast.

        Args:
            student: Projected student feature (N, C), (N, C, H, W) or (N, L, C).
            teacher: Teacher feature of the same shape; no gradient flows into it.

        Returns:
            tuple: Scalar loss, and ``{'alignment': mean of rho_c}`` (1 aligned, 0 unrelated).

        Raises:
            FeatureMismatchError: The shapes differ, the rank is not 2, 3 or 4, or there is one row at most.
        """
        check_features(self, student, teacher)
        reduce = reduction(self.sync)
        if reduce is None and student.numel() <= student.size(SF.channel_dim(student)):
            raise FeatureMismatchError(
                f'SRDLoss got a single row or none, {tuple(student.shape)}, which has no batch statistics; use a '
                'larger batch or larger images, or leave this level out with `levels`')
        passes = choose_passes(self.backend, student, teacher) if self.norm == 'batch' else None
        with torch.autocast(device_type=student.device.type, enabled=False):
            if passes is not None:
                formula = Formula(self.alpha, self.form, self.reduction, self.eps, self.sync)
                loss, alignment = fused_srd(student, teacher, formula, passes)
                return loss, {'alignment': alignment}
            z = SF.standardize(SF.wide(student), self.eps, reduce)
            t = SF.standardize(SF.wide(teacher.detach()), self.eps, reduce)
            if self.form == 'correlation':
                rho = SF.correlation(z, t, reduce)
                loss = SF.correlation_log_sum(rho, self.alpha)
            else:
                s, u = (z, t) if self.norm == 'batch' else (SF.wide(student), SF.wide(teacher.detach()))
                if self.norm == 'l2':
                    s, u = SF.unit_rows(s), SF.unit_rows(u)
                loss = SF.log_sum(s, u, self.alpha, self.reduction, reduce=reduce)
                with torch.no_grad():
                    rho = SF.correlation(z, t, reduce)
        return loss, {'alignment': rho.detach().mean()}

    def extra_repr(self) -> str:
        return f'alpha={self.alpha:g}, form={self.form!r}, reduction={self.reduction!r}, sync={self.sync}'


@MODELS.register_module()
class KLDivLoss(nn.Module):
    """KL divergence between the softened class distributions of teacher and student (Hinton et al. 2015).

    Batch mean, scaled with T²; the SRD recipe for classifiers adds it at T = 1.

    Args:
        temperature: Both logits are divided by it; above 0.
        sync: Average over all processes when there are several.

    Raises:
        ConfigError: An argument is outside of what is listed.
    """

    compares_logits = True

    def __init__(self, temperature: float = 1.0, sync: bool = True) -> None:
        super().__init__()
        is_number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
        if not is_number or not 0 < temperature < float('inf'):
            raise ConfigError.at('temperature', temperature, 'must be a finite number above 0')
        if not isinstance(sync, bool):
            raise ConfigError.at('sync', sync, 'must be True or False')
        self.temperature = float(temperature)
        self.sync = sync

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare logits of one shape; computed in float32 also under autocast.

        Args:
            student: Logits (N, C), (N, L, C) or (N, C, H, W).
            teacher: Logits of the same shape; no gradient flows into them.

        Returns:
            tuple: Scalar loss, and an empty dict.

        Raises:
            FeatureMismatchError: The shapes differ or the rank is not 2, 3 or 4.
        """
        check_features(self, student, teacher)
        reduce = reduction(self.sync)
        with torch.autocast(device_type=student.device.type, enabled=False):
            return SF.kl_divergence(SF.wide(student), SF.wide(teacher.detach()), self.temperature, reduce), {}

    def extra_repr(self) -> str:
        return f'temperature={self.temperature:g}, sync={self.sync}'


def check_features(loss: nn.Module, student: Tensor, teacher: Tensor) -> None:
    """Refuse features that no loss can compare.

    Raises:
        FeatureMismatchError: The shapes differ or the rank is not 2, 3 or 4.
    """
    if student.shape != teacher.shape or student.dim() not in (2, 3, 4):
        raise FeatureMismatchError(
            f'{type(loss).__name__} compares two features of one shape (N, C), (N, L, C) or (N, C, H, W), but got '
            f'student {tuple(student.shape)} and teacher {tuple(teacher.shape)}')
