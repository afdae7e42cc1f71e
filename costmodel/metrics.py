"""Metrics of a ranking: scores (higher for those predicted to be faster) against measured seconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _pair(scores: ArrayLike, seconds: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(scores, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"scores and seconds are vectors of one length, not {a.shape} and {b.shape}")
    return a, b


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; ties have the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = last - (counts + 1) / 2
    return mean[inverse]


def rank_correlation(scores: ArrayLike, seconds: ArrayLike) -> float:
    """Spearman's rho between score and speed: 1 for a perfect order, 0 when either is constant."""
    a, b = _pair(scores, seconds)
    x, y = ranks(a), ranks(-b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else 0.0


def pairwise_accuracy(scores: ArrayLike, seconds: ArrayLike) -> float:
    """The share of pairs of different times that are ordered right; a pair of equal scores counts one half.

    0.5 when there is no such pair.
    """
    a, b = _pair(scores, seconds)
    faster = b[:, None] < b[None, :]
    if not faster.any():
        return 0.5
    lead = a[:, None] - a[None, :]
    return float(np.mean((lead > 0)[faster] + 0.5 * (lead == 0)[faster]))


def top_k_recall(scores: ArrayLike, seconds: ArrayLike, k: int) -> float:
    """The share of the k fastest candidates that are among the k of highest score (ties: the first ones)."""
    a, b = _pair(scores, seconds)
    k = min(k, len(a))
    picked, fastest = np.argsort(-a, kind="stable")[:k], np.argsort(b, kind="stable")[:k]
    return len(set(picked.tolist()) & set(fastest.tolist())) / k


def regret_at_k(scores: ArrayLike, seconds: ArrayLike, k: int) -> float:
    """How much slower the best of the k of highest score is than the best of all: 0 is none, 1 is twice the time."""
    a, b = _pair(scores, seconds)
    picked = np.argsort(-a, kind="stable")[:k]
    return float(b[picked].min() / b.min() - 1.0)
