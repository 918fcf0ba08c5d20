"""The two published SRD losses with their gradients, by hand in float64 NumPy; shares no code with the package.

Both take the student's features S (N, C_s), the projector's matrix W (C_t, C_s) and the teacher's features
T (N, C_t), and return the loss, its gradient to S and its gradient to W.
"""
from __future__ import annotations

import numpy as np


def normalise(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation without affine parameters, and the deviations it divides by."""
    deviation = np.sqrt(x.var(0) + eps)
    return (x - x.mean(0)) / deviation, deviation


def back_through(gradient: np.ndarray, z: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Gradient before the normalisation, from the one after it (Ioffe and Szegedy 2015, section 3)."""
    return (gradient - gradient.mean(0) - z * (gradient * z).mean(0)) / deviation


def imagenet_form(s: np.ndarray, w: np.ndarray, t: np.ndarray, alpha: float) -> tuple[float, np.ndarray, np.ndarray]:
    """log Σ|BN(S·Wᵀ) − BN(T)|^α with eps 1e-4 in both normalisations."""
    z, deviation = normalise(s @ w.T, 1e-4)
    d = z - normalise(t, 1e-4)[0]
    total = np.sum(np.abs(d) ** alpha)
    g = back_through(alpha * np.abs(d) ** (alpha - 1) * np.sign(d) / total, z, deviation)
    return float(np.log(total)), g @ w, g.T @ s


def deit_form(s: np.ndarray, w: np.ndarray, t: np.ndarray, alpha: float) -> tuple[float, np.ndarray, np.ndarray]:
    """log(Σ_c|ρ_c − 1|^α + 1e-5) with ρ_c the mean of BN(S·Wᵀ)·BN(T) in channel c, eps 0 in both normalisations."""
    z, deviation = normalise(s @ w.T, 0.0)
    target = normalise(t, 0.0)[0]
    gap = (z * target).mean(0) - 1
    total = np.sum(np.abs(gap) ** alpha) + 1e-5
    slope = alpha * np.abs(gap) ** (alpha - 1) * np.sign(gap) / total
    g = back_through(slope * target / len(s), z, deviation)
    return float(np.log(total)), g @ w, g.T @ s


def rows(x: np.ndarray) -> np.ndarray:
    """(N, C), tokens (N, L, C) or a map (N, C, H, W) as rows (R, C)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]) if x.ndim == 4 else x.reshape(-1, x.shape[-1])


def unrows(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The reverse of :func:`rows`."""
    if like.ndim == 4:
        n, c, h, w = like.shape
        return np.moveaxis(x.reshape(n, h, w, c), -1, 1)
    return x.reshape(like.shape)
