"""A projector with orthonormal columns."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import register_parametrization

from ...compat.torch_versions import autocast
from ...registry import MODELS
from .base_projector import BaseProjector


@MODELS.register_module()
class OrthogonalProjector(BaseProjector):
    """A matrix whose columns are orthonormal at any time, or its rows where the teacher has fewer channels.

    It keeps distances between student features, so that it cannot hide what the student lacks (VkD, Miles et al.,
    CVPR 2024, section 3). The matrix is made anew in each step, in float32 also under autocast: by
    :func:`torch.nn.utils.parametrizations.orthogonal` where both have as many channels, else by a QR decomposition
    (0.2 s for 192 → 3,024 channels, forward and backward, on one thread of a CPU; not measured on a GPU).

    Args:
        in_channels: Channels of the student feature.
        out_channels: Channels of the teacher feature.

    Example:
        >>> import torch
        >>> from mmsrd import OrthogonalProjector
        >>> projector = OrthogonalProjector(8, 32)
        >>> projector(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 32, 5, 5])
        >>> matrix, = projector.matrices()
        >>> torch.allclose(matrix.T @ matrix, torch.eye(8), atol=1e-5)
        True
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        if in_channels == out_channels:
            orthogonal(self.linear)
        else:  # PyTorch's map for these has rank zero as soon as weight decay makes its diagonal smaller than 1
            register_parametrization(self.linear, 'weight', _Orthonormal())

    def matrices(self) -> list[Tensor]:
        """The matrix (out, in), without gradient."""
        weight: Any = self.linear.weight
        return [weight.detach()]

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, C_in, H, W), (N, L, C_in) or (N, C_in); the layout stays.

        Raises:
            FeatureMismatchError: The feature has another rank.
        """
        with autocast(x.device):
            weight: Any = self.linear.weight
        return self.apply_matrix(x, weight)

    def extra_repr(self) -> str:
        return f'{self.in_channels} -> {self.out_channels}'


class _Orthonormal(nn.Module):
    """Orthonormal columns that span those of a matrix, or rows where it is wide; its scale does not matter."""

    def forward(self, matrix: Tensor) -> Tensor:
        is_wide = matrix.size(0) < matrix.size(1)
        q, r = torch.linalg.qr(matrix.T if is_wide else matrix)
        q = torch.where(r.diagonal() < 0, -q, q)  # continuous in the matrix
        return q.T if is_wide else q
