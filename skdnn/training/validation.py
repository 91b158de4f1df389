"""Rows that are not trained on: their choice, scores on them, and the temperature fitted to them.

The temperature is a number that logits are divided by, so that probabilities are calibrated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.sparse import issparse
from scipy.special import log_expit
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing

from .folds import IN_NO_FOLD, Folds, HeldOut, assign_folds, split_validation
from .prediction import Predictor, average_logits
from .rows import Rows, checksum, row_bytes
from .state import TrainingPlan, TrainingState, make_stream
from .threads import limit_blas_threads

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]

MOST_REPEATED = 1_000_000
"""Largest number of rows for a scorer without weights, for which rows are repeated."""

ROWS_TO_COMPARE = 1_000
"""About how many rows are predicted to measure how members differ from their average."""

LARGEST_TEMPERATURE = 20.0
"""Upper bound of temperatures; its inverse is the lower one."""

PRIOR_SPREAD = 0.2
"""Standard deviation of log T under the prior, a normal distribution around 0.

As good as any from 0.15 to 0.25 on 37 tables (`benchmarks/RESULTS.md`), on either half of them.
"""

TEMPERATURE_TOLERANCE = 1e-3
"""Tolerance of the inverse of the best temperature of an epoch; the loss then errs by 1e-7."""

SUREST_MEMBER = 2.0
"""Temperature up to which members may be overconfident while their average is not."""


@dataclass(frozen=True)
class Validation:
    """Rows to evaluate each epoch on, and the score to evaluate, if it is not the loss.

    Attributes
    ----------
    rows : Rows
        With folds they are the rows to train on, with the labels as they were.
    held_out : HeldOut
        Those of them that each member is judged by.
    score : callable or None
        ``score(params, held_out_logits)``, where greater is better: each member's, of shape
        (n_members,), or with folds one of all rows held out; see `make_score`.
    name : str
        Of the score; scores of different names are not compared.
    folds : Folds or None
        Which rows each member holds out. One fold is few rows to choose an epoch by: what counts is
        the loss of all that are held out (see `find_least_loss`), or their score, one number for
        all members.
    """

    rows: Rows
    held_out: HeldOut
    score: Score | None
    name: str
    folds: Folds | None


def make_validation(estimator: Any, scoring: Any, rows: Rows, folds: Folds | None) -> Validation:
    """Return what to judge by: rows held out by members, or the same for all."""
    score = make_score(estimator, scoring, rows, folds)
    name = getattr(scoring, "__qualname__", repr(scoring))  # the same in another process
    rows = rows.normalize_weights()
    if folds is not None:
        held_out = folds.hold_out(rows)
    else:
        weight = rows.weights.astype(rows.y.dtype, copy=False)
        held_out = HeldOut(np.arange(len(rows)), rows.y[np.newaxis], weight[np.newaxis])
    return Validation(rows, held_out, score, name, folds)


def fingerprint(plan: TrainingPlan, rows: Rows, validation: Validation | None) -> int:
    """Return a checksum of the rows and of what defines the objective on them."""
    parts = [f"{plan.loss} {plan.l2} {plan.ema_decay > 0.0}".encode(), *rows.arrays()]
    if validation is not None:
        parts += [validation.name.encode(), *validation.rows.arrays()]
        if validation.folds is not None:
            parts += [validation.folds.holders, validation.folds.of_row]
    return checksum(*parts)


def hold_out(
    parameters: Any, plan: TrainingPlan, state: TrainingState, rows: Rows, given: Rows | None
) -> tuple[Rows, Rows | None, Folds | None]:
    """Return the rows to train on, those to validate on if there are to be any, and the folds.

    With folds both are the same rows, of which each member leaves out its own. Nothing is held out
    where each class is all in one row, or in copies of it.
    """
    if given is not None or not plan.stops_early:
        return rows, given, None
    n_members, fraction = plan.network.n_members, parameters.validation_fraction
    rng = make_stream(state.seed, "split")  # a warm start splits the same rows again
    if n_members > 1 and parameters.solver != "lbfgs":
        folds = assign_folds(rows, n_members, fraction, rng)
        can_hold_out = bool((folds.of_row != IN_NO_FOLD).any())
        return (rows, rows, folds) if can_hold_out else (rows, None, None)
    training, held_out = split_validation(rows, fraction, rng)
    return (training, held_out, None) if len(held_out) else (rows, None, None)


def can_calibrate(
    parameters: Any, classes: np.ndarray, held_out: Rows | None, folds: Folds | None
) -> bool:
    """Say whether there are rows of both classes that were not trained on.

    Raises
    ------
    ValueError
        If there are none, and calibration was asked for by name.
    """
    labels = np.array([]) if held_out is None else held_out.y
    labels = np.unique(labels if folds is None else labels[folds.of_row != IN_NO_FOLD])
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


def make_score(
    estimator: Any, scoring: Any, rows: Rows, folds: Folds | None = None
) -> Score | None:
    """Return ``score(params, held_out_logits)``; None stands for the loss.

    It returns each member's score on the rows, by an estimator with that member alone. With folds
    it is one number, of all rows that are held out, each predicted by the members that hold it out:
    by their logits on the rows of `Folds.hold_out`. The scorer sees labels as the user gave them.

    Raises
    ------
    ValueError
        If the rows have weights that the scorer does not take; by `score`, if the scorer fails.
    """
    if isinstance(scoring, str) and scoring == "loss":
        return None
    scorer = check_scoring(estimator, scoring)
    index = np.arange(len(rows))
    if folds is not None:
        index = index[folds.of_row != IN_NO_FOLD]
    weight, arguments = rows.weights[index], {}
    if not np.allclose(weight, weight[:1], atol=0.0):
        if _takes_weights(scorer):
            arguments["sample_weight"] = weight
        else:
            index = _repeat(index, weight, scoring)
    X = rows.X if np.array_equal(index, np.arange(len(rows))) else rows.X[index]
    labels = estimator.classes_[rows.y[index].astype(np.intp)]

    def evaluate(model: Any) -> float:
        try:
            return float(scorer(model, X, labels, **arguments))
        except Exception as error:
            raise ValueError(_explain(error, scoring, scorer, X, estimator.classes_)) from error

    def score(params: np.ndarray, held_out_logits: np.ndarray) -> np.ndarray:
        if folds is None:
            members = enumerate(params[:, np.newaxis])
            return np.array([evaluate(estimator._for_encoded_rows(p, m)) for m, p in members])
        if not np.isfinite(held_out_logits).all():
            return np.array(np.nan)
        model = estimator._for_encoded_rows(params)
        pooled = folds.pool(held_out_logits)[index]
        # All other predictions come from these.
        model._predict_logits = partial(_answer, known_X=X, logits=pooled)
        return np.array(evaluate(model))

    return score


def _takes_weights(scorer: Any) -> bool:
    accepted = signature(scorer).parameters.values()
    return any(p.name == "sample_weight" or p.kind == p.VAR_KEYWORD for p in accepted)


def _repeat(index: np.ndarray, weight: np.ndarray, scoring: Any) -> np.ndarray:
    """Repeat rows as often as their weights say, as of rows that were merged.

    Raises
    ------
    ValueError
        If weights are not whole numbers, or make too many rows.
    """
    if (weight != np.rint(weight)).any() or weight.sum() > MOST_REPEATED:
        raise ValueError(
            f"scoring={scoring!r} does not take sample_weight, but the validation rows have "
            "weights. Let it accept sample_weight=None, or pass a scorer's name."
        )
    return index.repeat(weight.astype(np.intp))


def _answer(X: Any, known_X: Any, logits: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """Return the logits of some rows, all of them known, and the dtype of predictions."""
    if X is not known_X:
        X = X if issparse(X) else np.ascontiguousarray(X, known_X.dtype)
        found = dict(zip(row_bytes(known_X), logits.tolist(), strict=True))
        asked = list(row_bytes(X))
        if not found.keys() >= set(asked):
            raise ValueError(
                "The rows held out are predicted by the networks that did not train on them, and a "
                "scorer can ask for these rows only, all or some, but not for others. Pass X_val "
                "and y_val to have each network judged by itself, on any rows."
            )
        logits = np.array([found[key] for key in asked])
    return logits, logits.dtype


def _explain(error: Exception, scoring: Any, scorer: Any, X: Any, classes: np.ndarray) -> str:
    """Return a message for the failure of a scorer, with advice."""
    made = repr(scorer).replace(", average=binary", "")  # the default, and without quotes
    if "pos_label" in str(error) and 1 not in classes.tolist() and made.startswith("make_scorer("):
        label = classes.tolist()[1]
        advice = f"Say which label is the positive one: scoring={made[:-1]}, pos_label={label!r})."
    elif isinstance(scoring, str):
        advice = "Take another score, or more rows."
    else:
        kind = "a CSR matrix" if issparse(X) else "an array"
        advice = (
            f"A scorer is given an estimator, the rows as they enter the network, {kind} of "
            f"{X.dtype} of shape {X.shape} without column names, and their labels as in y."
        )
    what = f"{type(error).__name__}: {error}".rstrip(". ")
    return f"scoring={scoring!r} cannot judge the validation rows: {what}. {advice}"


def evaluate_out_of_fold(
    estimator: Any, X: Any, validation: Validation | None, is_calibrated: bool
) -> dict[str, Any]:
    """Predict rows by members that did not train on them, and calibrate by these if asked to.

    Returns the fitted attributes `oof_decision_function_` and `temperature_`, as far as there are.
    """
    if validation is None or not (is_calibrated or validation.folds is not None):
        return {}
    predictor, params = estimator._predictor, estimator.params_
    rows, folds, temperature = validation.rows, validation.folds, 1.0
    with limit_blas_threads(0):
        logits = predictor.logits(params, rows.X, validation.held_out.places)
        if folds is None:
            logits = average_logits(logits)
        else:
            logits = folds.pool(logits).astype(params.dtype)
            if is_calibrated:
                logits = logits * _scale_of_average(predictor, params, rows, folds)
        if is_calibrated:
            temperature = _fit_temperature(logits, rows)
        fitted: dict[str, Any] = {"temperature_": temperature}
        if folds is not None:
            logits = _in_given_order(estimator, logits, X, rows) / temperature
            fitted["oof_decision_function_"] = logits
    return fitted


def _scale_of_average(predictor: Predictor, params: np.ndarray, rows: Rows, folds: Folds) -> float:
    """Return the factor that brings logits out of fold to the size of those of the whole ensemble.

    It is measured on some rows of the table, without their labels.
    """
    every = max(1, len(rows) // ROWS_TO_COMPARE)
    logits = predictor.logits(params, rows.X, np.arange(0, len(rows), every))
    used = folds.holders[np.unique(folds.of_row[folds.of_row >= 0])]
    of_folds = [average_logits(logits[holders]) for holders in used if holders.any()]
    return relative_size(average_logits(logits), np.stack(of_folds))


def _fit_temperature(logits: np.ndarray, rows: Rows) -> float:
    """Return the temperature for logits of some rows; rows whose logit is NaN are left out.

    It is 1 where all are of one class, whose loss would only fall with the temperature.
    """
    is_known = np.isfinite(logits)
    if len(np.unique(rows.y[is_known])) < 2:
        return 1.0
    weight = rows.weights[is_known].astype(np.float64)
    n_rows = count_evidence(weight, rows.count_copies()[is_known])
    return fit_temperature(logits[is_known], rows.y[is_known], weight, n_rows)


def _in_given_order(estimator: Any, logits: np.ndarray, X: Any, rows: Rows) -> np.ndarray:
    """Return the logit of each row of X; all members predict rows without weight."""
    if rows.place is None:
        return logits
    logits = np.append(logits, np.nan)[rows.place]
    is_unseen = np.flatnonzero(rows.place < 0)
    if len(is_unseen):
        logits[is_unseen] = estimator.decision_function(_safe_indexing(X, is_unseen))
    return logits


def find_least_loss(loss: Callable[[float], float]) -> float:
    """Return the least loss of logits divided by a temperature from 1 to `SUREST_MEMBER`.

    Each row that an ensemble holds out is predicted by one member here, but by the average of all
    in the end, whose probabilities are less extreme where members differ. By their plain loss
    members would be stopped too early: they are overconfident before they stop learning. Within
    this bound averaging corrects that: on 19 tables (benchmarks/RESULTS.md) the Brier score is 2%
    less than with the plain loss, at the same log-loss; without the bound the log-loss is 2%
    higher.

    Parameters
    ----------
    loss : callable
        ``loss(factor) -> float``, of logits multiplied by that factor.

    References
    ----------
    E. Berta, D. Holzmüller, M. I. Jordan and F. Bach, "Rethinking early stopping: refine, then
    calibrate", 2025, arXiv:2501.19195.
    """
    options = {"xatol": TEMPERATURE_TOLERANCE}
    found = minimize_scalar(loss, bounds=(1.0 / SUREST_MEMBER, 1.0), options=options)
    return min(float(found.fun), loss(1.0))


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


def relative_size(average: np.ndarray, of_few: np.ndarray) -> float:
    """Return the ratio of the sizes of logits, those of an ensemble and those of few members.

    Rows that an ensemble holds out are predicted by few of its members. The logits of the average
    of all, which is to be calibrated, are smaller the more members differ: a temperature fitted to
    the former would be too high.
    """
    size = np.square(average, dtype=np.float64).mean()
    size_of_few = np.square(of_few, dtype=np.float64).mean()
    is_known = np.isfinite([size, size_of_few]).all() and size_of_few > 0.0
    return float(np.sqrt(size / size_of_few)) if is_known else 1.0
