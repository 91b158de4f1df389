"""Temperature: one number that makes probabilities as sure of themselves as they should be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

LARGEST = 20.0
"""Temperatures are looked for between this number and its inverse."""


SUREST_MEMBER = 2.0
"""How much surer of themselves members may be than they should, before their average is too."""


def find_least_loss(loss: Callable[[float], float]) -> float:
    """Return the least loss of logits divided by a temperature from 1 to `SUREST_MEMBER`.

    Each row that an ensemble holds out is judged by one member, but predicted in the end by the
    average of all, which is less sure of itself where they differ. By their plain loss members
    would be stopped too early: they are overconfident before they stop learning. Within this bound
    averaging makes up for it: on 19 tables (benchmarks/RESULTS.md) the Brier score is 2% less than
    with the plain loss, at the same log-loss; without the bound the log-loss is 2% higher.

    Parameters
    ----------
    loss : callable
        ``loss(factor) -> float``, of logits multiplied by that factor.

    References
    ----------
    E. Berta, D. Holzmüller, M. I. Jordan and F. Bach, "Rethinking early stopping: refine, then
    calibrate", 2025, arXiv:2501.19195.
    """
    bounds = (-float(np.log(SUREST_MEMBER)), 0.0)
    found = minimize_scalar(lambda u: loss(float(np.exp(u))), bounds=bounds, method="bounded")
    return min(float(found.fun), loss(1.0))


def fit_temperature(logits: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """Return the temperature T > 0 by which logits of rows not trained on are best divided.

    It minimises the mean cross-entropy of ``logits / T``, a convex function of 1 / T. One number
    cannot overfit much, and changes no ranking.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks",
    ICML 2017, arXiv:1706.04599.
    """
    logits, y = logits.astype(np.float64), y.astype(np.float64)

    def cost(log_T: float) -> float:
        z = logits * np.exp(-log_T)
        return float(np.average(-log_expit(-z) - y * z, weights=sample_weight))

    bound = np.log(LARGEST)
    found = minimize_scalar(cost, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x)) if found.fun < cost(0.0) else 1.0
