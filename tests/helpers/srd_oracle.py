"""The published formulas in float64 NumPy, written from the paper; shares no code with the package."""
from __future__ import annotations

import numpy as np


def rows(x: np.ndarray) -> np.ndarray:
    """(N, C), (N, L, C) or (N, C, H, W) as rows of channels (R, C)."""
    if x.ndim == 4:
        return np.stack([image[:, i, j] for image in x for i in range(x.shape[2]) for j in range(x.shape[3])])
    if x.ndim == 3:
        return np.concatenate(list(x), axis=0)
    return x


def batch_norm(x: np.ndarray, eps: float) -> np.ndarray:
    """Each column of (R, C) less its mean, over the root of its biased variance plus eps."""
    return (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + eps)


def elementwise(s: np.ndarray, t: np.ndarray, alpha: float, eps: float = 1e-4, log_eps: float = 1e-8) -> float:
    """log(mean |z − t|^alpha + log_eps)."""
    d = batch_norm(rows(s), eps) - batch_norm(rows(t), eps)
    return float(np.log(np.mean(np.abs(d) ** alpha) + log_eps))


def correlation(s: np.ndarray, t: np.ndarray, alpha: float, eps: float = 1e-4) -> float:
    """log(Σ_c |rho_c − 1|^alpha + 1e-5)."""
    rho = (batch_norm(rows(s), eps) * batch_norm(rows(t), eps)).mean(0)
    return float(np.log(np.sum(np.abs(rho - 1) ** alpha) + 1e-5))


def kl_divergence(s: np.ndarray, t: np.ndarray, temperature: float) -> float:
    """T² · mean over rows of Σ_c p_t log(p_t / p_s)."""
    p_s, p_t = (np.exp(rows(x) / temperature) for x in (s, t))
    p_s, p_t = p_s / p_s.sum(1, keepdims=True), p_t / p_t.sum(1, keepdims=True)
    return float(temperature ** 2 * np.mean(np.sum(p_t * np.log(p_t / p_s), axis=1)))


def alignment(s: np.ndarray, t: np.ndarray, eps: float = 1e-4) -> float:
    """Mean over channels of the correlation."""
    return float((batch_norm(rows(s), eps) * batch_norm(rows(t), eps)).mean())
