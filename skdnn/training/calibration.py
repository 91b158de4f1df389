"""Calibration: a temperature that logits are divided by, so that probabilities are right.

It is fitted to rows that were not trained on, together with what is predicted for these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit
from sklearn.utils import _safe_indexing

from .prediction import average_logits
from .rows import Rows
from .threads import limit_blas_threads
from .validation import Validation, pool_logits

ROWS_TO_COMPARE = 1_000
"""About how many rows are predicted to measure how members differ from their average."""

LARGEST_TEMPERATURE = 20.0
"""Upper bound of temperatures; its inverse is the lower one."""

PRIOR_SPREAD = 0.2
"""Standard deviation of log T under the prior, a normal distribution around 0.

As good as any from 0.15 to 0.25 on 37 tables (`benchmarks/RESULTS.md`), on either half of them.
"""


def can_calibrate(parameters: Any, classes: np.ndarray, rows: Rows | None) -> bool:
    """Say whether there are rows of both classes that were not trained on.

    Raises
    ------
    ValueError
        If there are none, and calibration was asked for by name.
    """
    labels = np.array([]) if rows is None else rows.y
    if rows is not None and rows.is_held_out is not None:
        labels = labels[rows.is_held_out.any(axis=0)]
    labels = np.unique(labels)
    if len(labels) == 2 or parameters.calibration == "auto":
        return len(labels) == 2
    if len(labels) == 0:
        raise ValueError(
            f"calibration={parameters.calibration!r} needs rows that were not trained on, and "
            f"early_stopping={parameters.early_stopping!r} holds none out here. Set it to True, "
            "pass X_val and y_val, or set calibration to None."
        )
    only = classes.tolist()[int(labels[0])]
    raise ValueError(
        f"calibration={parameters.calibration!r} needs rows of both classes that were not trained "
        f"on, but all of these are of class {only!r}. Pass X_val and y_val with both, or more "
        "rows, or set calibration to None."
    )


def evaluate_out_of_fold(
    estimator: Any, X: Any, validation: Validation | None, is_calibrated: bool
) -> dict[str, Any]:
    """Predict rows by members that did not train on them, and calibrate by these if asked to.

    Returns the fitted attributes `oof_decision_function_` and `temperature_`, as far as there are.
    """
    if validation is None or not (is_calibrated or validation.rows.is_held_out is not None):
        return {}
    predictor, params, rows = estimator._predictor, estimator.params_, validation.rows
    is_held_out, temperature = rows.is_held_out, 1.0
    with limit_blas_threads(0):
        logits = predictor.logits(params, rows.X, validation.places)
        if is_held_out is None:
            return {"temperature_": _fit_to_rows(average_logits(logits), rows)}
        logits = pool_logits(is_held_out, logits).astype(params.dtype)
        if is_calibrated:
            some = np.arange(0, len(rows), max(1, len(rows) // ROWS_TO_COMPARE))
            of_all = predictor.logits(params, rows.X, some)
            logits = logits * relative_size(of_all, is_held_out[:, some])
            temperature = _fit_to_rows(logits, rows)
        if rows.place is not None:  # rows of X in their order; all members predict the others
            logits = np.append(logits, np.nan)[rows.place]
            is_unseen = np.flatnonzero(rows.place < 0)
            if len(is_unseen):
                logits[is_unseen] = estimator.decision_function(_safe_indexing(X, is_unseen))
    return {"temperature_": temperature, "oof_decision_function_": logits / temperature}


def _fit_to_rows(logits: np.ndarray, rows: Rows) -> float:
    """Return the temperature for logits of some rows; rows whose logit is NaN are left out.

    It is 1 where all are of one class, whose loss would only fall with the temperature.
    """
    is_known = np.isfinite(logits)
    if len(np.unique(rows.y[is_known])) < 2:
        return 1.0
    n_copies, weight = np.ones(len(rows)), rows.weights.astype(np.float64)
    if rows.place is not None:  # of how many rows each one was made
        n_copies = np.bincount(rows.place[rows.place >= 0], minlength=len(rows)).clip(1)
    n_rows = count_evidence(weight[is_known], n_copies[is_known])
    return fit_temperature(logits[is_known], rows.y[is_known], weight[is_known], n_rows)


def fit_temperature(
    logits: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, n_rows: float
) -> float:
    """Return the temperature T > 0 by which logits of rows not trained on are best divided.

    It minimises ``n_rows * loss(T) + log(T)^2 / (2 PRIOR_SPREAD^2)``, with the mean cross-entropy
    of ``logits / T``. The second term keeps T near 1 where rows are few, or all predicted right, so
    that their loss falls as long as T does. One number changes no ranking.

    Parameters
    ----------
    logits : ndarray of shape (n_samples,)
    y : ndarray of shape (n_samples,)
        0 or 1.
    sample_weight : ndarray of shape (n_samples,) or None
    n_rows : float
        The effective sample size; see `count_evidence`.

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

    bound = np.log(LARGEST_TEMPERATURE)
    found = minimize_scalar(cost, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x)) if found.fun < cost(0.0) else 1.0


def count_evidence(sample_weight: np.ndarray, n_copies: np.ndarray) -> float:
    """Return the effective sample size: how many rows of equal weight are worth as much.

    It is ``(sum w)^2 / sum w^2``, which does not depend on the unit of the weights. A row that was
    merged from several counts as these.

    References
    ----------
    L. Kish, "Survey sampling", Wiley, 1965.
    """
    weight = sample_weight / sample_weight.max()  # squares of huge ones would overflow
    return float(weight.sum() ** 2 / (weight**2 / n_copies).sum())


def relative_size(logits: np.ndarray, is_held_out: np.ndarray) -> float:
    """Return the ratio of the sizes of logits, those of an ensemble and those of few members.

    Rows that an ensemble holds out are predicted by few of its members. The logits of the average
    of all, which is to be calibrated, are smaller the more members differ: a temperature fitted to
    the former would be too high.

    Parameters
    ----------
    logits : ndarray of shape (n_members, n_samples)
        Of any rows, whose labels do not matter.
    is_held_out : ndarray of bool of shape (n_members, n_samples)
        Each set of members that hold out the same rows is compared.
    """
    sets = np.unique(is_held_out[::-1], axis=1)[::-1].T
    of_sets = [average_logits(logits[members]) for members in sets if members.any()]
    size, size_of_few = np.square(average_logits(logits)).mean(), np.square(of_sets).mean()
    is_known = np.isfinite([size, size_of_few]).all() and size_of_few > 0.0
    return float(np.sqrt(size / size_of_few)) if is_known else 1.0
