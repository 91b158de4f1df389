"""Temperature: one number that makes probabilities as sure of themselves as they should be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

LARGEST = 20.0
"""Temperatures are looked for between this number and its inverse."""

PRIOR_SPREAD = 0.2
"""Standard deviation of log T under the prior, a normal distribution around 0.

As good as any from 0.15 to 0.25 on 37 tables (`benchmarks/RESULTS.md`), on either half of them.
"""

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


def fit_temperature(
    logits: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, n_rows: float
) -> float:
    """Return the temperature T > 0 by which logits of rows not trained on are best divided.

    It minimises ``n_rows * loss(T) + log(T)^2 / (2 PRIOR_SPREAD^2)``, with the mean cross-entropy
    of ``logits / T``. Few rows, and rows that are all answered right, whose loss falls as long as T
    does, then say little. One number changes no ranking.

    Parameters
    ----------
    logits : ndarray of shape (n_samples,)
    y : ndarray of shape (n_samples,)
        0 or 1.
    sample_weight : ndarray of shape (n_samples,) or None
    n_rows : float
        How many rows of equal weight say as much; see `count_evidence`.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks",
    ICML 2017, arXiv:1706.04599. They have no prior.
    """
    logits, y = logits.astype(np.float64), y.astype(np.float64)

    def cost(log_T: float) -> float:
        z = logits * np.exp(-log_T)
        loss = np.average(-log_expit(-z) - y * z, weights=sample_weight)
        return float(n_rows * loss + 0.5 * (log_T / PRIOR_SPREAD) ** 2)

    bound = np.log(LARGEST)
    found = minimize_scalar(cost, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x)) if found.fun < cost(0.0) else 1.0


def count_evidence(sample_weight: np.ndarray, n_copies: np.ndarray) -> float:
    """Return how many rows of equal weight say as much as some rows: the effective sample size.

    It is ``(sum w)^2 / sum w^2``, and the same whatever all weights are multiplied by. A row that
    stands for several with one weight counts as these.

    References
    ----------
    L. Kish, "Survey sampling", Wiley, 1965.
    """
    weight = sample_weight / sample_weight.max()  # squares of huge ones would overflow
    return float(weight.sum() ** 2 / (weight**2 / n_copies).sum())


def relative_size(average: np.ndarray, judged: np.ndarray) -> float:
    """Return how large logits of an ensemble are beside those of few members, for the same rows.

    Rows that an ensemble holds out are judged by few of its members. The average of all, which is
    to be calibrated, is less sure of itself, the more so the more members differ: a temperature
    that suits the members would be too high for it.
    """
    sizes = [np.square(logits, dtype=np.float64).mean() for logits in (average, judged)]
    return float(np.sqrt(sizes[0] / sizes[1])) if sizes[1] else 1.0


def average_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logit of the members' mean probability: (n_samples,) of float64."""
    logits = logits.astype(np.float64, copy=False)
    if len(logits) == 1:
        return logits[0]
    return _log_sum(log_expit(logits)) - _log_sum(log_expit(-logits))


def join_logits(
    numbers: np.ndarray, logits: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each number once, in ascending order, and the logit of its mean probability.

    Parameters
    ----------
    numbers : ndarray of int of shape (n_samples,)
        Of whom each logit is.
    logits : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,)
        Of each in the mean, above zero.
    """
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    z, log_weight = logits[order].astype(np.float64), np.log(weight[order], dtype=np.float64)
    of_first, of_second = (
        np.logaddexp.reduceat(log_weight + log_expit(sign * z), starts) for sign in (-1.0, 1.0)
    )
    return found, of_second - of_first


def average_gradients(logits: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Return the gradient of the averaged logit: (n_samples, n_features).

    With p the mean of the members' probabilities p_m, and s_m = p_m (1 - p_m) the slope of each,
    ``d logit(p) / dx = mean_m(s_m dz_m/dx) / (p (1 - p))``. As ``1 - p`` is a mean of its own and
    s_m = sigmoid(z_m) sigmoid(-z_m), no difference of nearly equal numbers is taken.

    Parameters
    ----------
    logits : ndarray of shape (n_members, n_samples)
    grads : ndarray of shape (n_members, n_samples, n_features)
        Of each member's logit.
    """
    if len(logits) == 1:
        return grads[0]
    log_slope = log_expit(logits) + log_expit(-logits)
    log_total = _log_sum(log_expit(logits)) + _log_sum(log_expit(-logits))
    shares = len(logits) * np.exp(log_slope - log_total)
    return np.einsum("mi,mij->ij", shares, grads)


def _log_sum(logarithms: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum over members; for one row SciPy's logsumexp is slow."""
    return np.logaddexp.reduce(logarithms, axis=0)
