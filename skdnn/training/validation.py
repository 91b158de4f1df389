"""Rows that are not trained on: which ones, scores by them, and the temperature by them.

The temperature is one number that makes probabilities as sure of themselves as they should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
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

from .folds import IN_NO_FOLD, Folds, assign_folds, find_unit, split_validation
from .prediction import Predictor, average_logits
from .rows import Rows, checksum, row_bytes
from .state import TrainingPlan, TrainingState
from .threads import limit_blas_threads

Score = Callable[[np.ndarray, np.ndarray | None], np.ndarray]

SAME_SHARE = 1e-5
"""Relative difference up to which weights in float32 are the same."""

MOST_REPEATED = 1_000_000
"""Rows that a scorer that takes no weights is shown, at most, if they are repeated for it."""

SCORER = re.compile(
    r"make_scorer\((?P<metric>\w+(?:, greater_is_better=False)?)"
    r"(?:, response_method=(?P<method>'\w+'|\([^)]*\)))?"
)
"""How scikit-learn shows its scorers."""

ROWS_TO_COMPARE = 1_000
"""Rows, or a few more, that are looked at to see how members differ from their average."""

LARGEST_TEMPERATURE = 20.0
"""Temperatures are looked for between this number and its inverse."""

PRIOR_SPREAD = 0.2
"""Standard deviation of log T under the prior, a normal distribution around 0.

As good as any from 0.15 to 0.25 on 37 tables (`benchmarks/RESULTS.md`), on either half of them.
"""

TEMPERATURE_TOLERANCE = 1e-3
"""How exact the logarithm of the best temperature of an epoch is: the loss is then by 1e-7."""

SUREST_MEMBER = 2.0
"""How much surer of themselves members may be than they should, before their average is too."""


@dataclass(frozen=True)
class Validation:
    """Rows to judge each epoch by, and the score to judge with, if it is not the loss.

    Attributes
    ----------
    rows : Rows
        With folds they are the rows to train on, with the labels as they were.
    score : callable or None
        ``score(params, held_out_logits)``, the more the better: each member's, of shape
        (n_members,), or with folds one of all rows held out; see `make_score`.
    name : str
        Of the score; scores of different names are not compared.
    folds : Folds or None
        Which rows each member holds out. One fold is few rows to choose an epoch by: what counts is
        the loss of all that are held out (see `find_least_loss`), or their score, one number for
        all members.
    """

    rows: Rows
    score: Score | None = None
    name: str = "loss"
    folds: Folds | None = None


def fingerprint(plan: TrainingPlan, rows: Rows, validation: Validation | None) -> int:
    """Return a number that changes with the rows and with what training is to lower on them."""
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

    With folds both are the same rows, of which each member leaves out its own.
    """
    held_out, folds = given, None
    if held_out is None and plan.stops_early:
        n_members = plan.network.n_members
        rng = deepcopy(state.streams.split[0])  # a warm start splits the same rows again
        if n_members > 1 and parameters.solver != "lbfgs":
            rows, folds = assign_folds(rows, n_members, parameters.validation_fraction, rng)
            held_out = rows
        else:
            rows, held_out = split_validation(rows, parameters.validation_fraction, rng)
    return rows, held_out, folds


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
    it is one number, of all rows that are held out, each judged by the members that hold it out: by
    their logits on the rows of `Folds.hold_out`. The scorer sees labels as the user gave them.

    Raises
    ------
    ValueError
        If the rows have weights that the scorer does not take; by `score`, if it cannot judge them.
    """
    if isinstance(scoring, str) and scoring == "loss":
        return None
    scorer = check_scoring(estimator, scoring)
    held_out = None if folds is None else folds.hold_out(rows)
    weight = rows.weights if held_out is None else held_out.row_weights()
    index, arguments = np.flatnonzero(weight), {}
    weight = weight[index]
    if not np.allclose(weight, weight[:1], rtol=SAME_SHARE, atol=0.0):
        if _takes_weights(scorer):
            arguments["sample_weight"] = weight
        else:
            index = _repeat(rows, index, weight, scoring)
    # A table as it is takes no copy.
    is_whole = len(index) == len(rows) and bool((index[:-1] < index[1:]).all())
    X = rows.X if is_whole and isinstance(rows.X, np.ndarray) else rows.X[index]
    labels = estimator.classes_[rows.y[index].astype(np.intp)]

    def judge(model: Any) -> float:
        try:
            return float(scorer(model, X, labels, **arguments))
        except Exception as error:
            raise ValueError(_explain(error, scoring, scorer, X, estimator.classes_)) from error

    def score(params: np.ndarray, held_out_logits: np.ndarray | None) -> np.ndarray:
        if held_out is None or held_out_logits is None:
            members = enumerate(params[:, np.newaxis])
            return np.array([judge(estimator._for_encoded_rows(p, m)) for m, p in members])
        if not np.isfinite(held_out_logits).all():
            return np.array(np.nan)
        model = estimator._for_encoded_rows(params)
        pooled = held_out.pool(held_out_logits)[index]
        # All other predictions come from these.
        model._predict_logits = partial(_answer, known_X=X, logits=pooled)
        return np.array(judge(model))

    return score


def _takes_weights(scorer: Any) -> bool:
    accepted = signature(scorer).parameters.values()
    return any(p.name == "sample_weight" or p.kind == p.VAR_KEYWORD for p in accepted)


def _repeat(rows: Rows, index: np.ndarray, weight: np.ndarray, scoring: Any) -> np.ndarray:
    """Repeat rows of a table of which some have been merged or cut as often as weights say.

    Rows that are given without weights have some after that.

    Raises
    ------
    ValueError
        If all rows are as they were given, or weights are not multiples of one unit, or make too
        many rows.
    """
    is_as_given = rows.logit_index is None and (rows.count_copies() == 1).all()
    unit = None if is_as_given else find_unit(np.unique(weight), SAME_SHARE)
    if unit is None or weight.sum() / unit > MOST_REPEATED:
        raise ValueError(
            f"scoring={scoring!r} does not take sample_weight, but the validation rows have "
            "weights. Let it accept sample_weight=None, or pass a scorer's name."
        )
    return index.repeat(np.rint(weight / unit).astype(np.intp))


def _answer(X: Any, known_X: Any, logits: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """Return the logits of some rows, all of them known, and the dtype of predictions.

    Rows that are alike are told apart only where all are asked for.
    """
    if X is known_X:
        return logits, logits.dtype
    X = X if issparse(X) else np.ascontiguousarray(X, known_X.dtype)
    asked, known = list(row_bytes(X)), list(row_bytes(known_X))
    if asked == known:
        return logits, logits.dtype
    found: dict[bytes, list[float]] = {}
    for key, logit in zip(known, logits.tolist(), strict=True):
        found.setdefault(key, []).append(logit)
    if not found.keys() >= set(asked):
        raise ValueError(
            "The rows held out are predicted by the networks that did not train on them, and a "
            "scorer can ask for these rows only, all or some, but not for others. Pass X_val and "
            "y_val to have each network judged by itself, on any rows."
        )
    return np.array([np.mean(found[key]) for key in asked]), logits.dtype


def _explain(error: Exception, scoring: Any, scorer: Any, X: Any, classes: np.ndarray) -> str:
    """Say what a scorer was given when it failed, and what to do."""
    found = SCORER.match(repr(scorer))
    if found and "pos_label" in str(error) and 1 not in classes.tolist():
        method = found["method"]
        method = "" if method in (None, "'predict'") else f", response_method={method}"
        options = "".join(re.findall(r", \w+=[-+.\d]+\b", repr(scorer)[found.end() :]))
        advice = (
            f"Say which label is the positive one: scoring=make_scorer({found['metric']}{method}"
            f"{options}, pos_label={classes.tolist()[1]!r})."
        )
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
    estimator: Any,
    X: Any,
    rows: Rows,
    held_out: Rows | None,
    folds: Folds | None,
    is_calibrated: bool,
) -> dict[str, Any]:
    """Predict rows by members that did not train on them, and calibrate by these if asked to.

    Returns the fitted attributes `oof_decision_function_` and `temperature_`, as far as there are.
    """
    predictor, params = estimator._predictor, estimator.params_
    judged: dict[str, Any] = {}
    with limit_blas_threads(0):
        if folds is not None:
            out = folds.hold_out(rows)
            logits = predictor.logits(params, rows.X, out.places)
            logits = out.pool(logits).astype(params.dtype)
            if is_calibrated:
                logits = logits * _scale_of_average(predictor, params, rows, folds)
            judged["oof_decision_function_"] = _in_given_order(estimator, logits, X, rows)
        elif is_calibrated and held_out is not None:
            logits = average_logits(predictor.logits(params, held_out.X))
        if is_calibrated and held_out is not None:
            judged["temperature_"] = _fit_temperature(logits, held_out)
            if folds is not None:
                judged["oof_decision_function_"] /= judged["temperature_"]
    return judged


def _scale_of_average(predictor: Predictor, params: np.ndarray, rows: Rows, folds: Folds) -> float:
    """Return what logits of the members that hold a row out are multiplied by to be the average's.

    How members differ is measured on some rows of the table, without their labels.
    """
    every = max(1, len(rows) // ROWS_TO_COMPARE)
    logits = predictor.logits(params, rows.X, np.arange(0, len(rows), every))
    used = np.unique(folds.of_row[folds.of_row >= 0]).tolist()
    of_folds = (logits[folds.holders[fold]] for fold in used)
    judged = [average_logits(of_fold) for of_fold in of_folds if len(of_fold)]
    return relative_size(average_logits(logits), np.stack(judged))


def _fit_temperature(logits: np.ndarray, rows: Rows) -> float:
    """Return the temperature for logits of some rows; those without one say nothing.

    Nor do rows of one class, which would be the better the surer.
    """
    is_known = np.isfinite(logits)
    if len(np.unique(rows.y[is_known])) < 2:
        return 1.0
    weight = rows.weights[is_known].astype(np.float64)
    n_rows = count_evidence(weight, rows.count_copies()[is_known])
    return fit_temperature(logits[is_known], rows.y[is_known], weight, n_rows)


def _in_given_order(estimator: Any, logits: np.ndarray, X: Any, rows: Rows) -> np.ndarray:
    """Return the logit of each row of X; rows without weight were seen by no member."""
    if rows.place is None:
        return logits
    logits = np.append(logits, np.nan)[rows.place]
    is_unseen = np.flatnonzero(rows.place < 0)
    if len(is_unseen):
        logits[is_unseen] = estimator.decision_function(_safe_indexing(X, is_unseen))
    return logits


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
    found = minimize_scalar(
        lambda u: loss(float(np.exp(u))),
        bounds=bounds,
        method="bounded",
        options={"xatol": TEMPERATURE_TOLERANCE},
    )
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

    bound = np.log(LARGEST_TEMPERATURE)
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
    is_known = np.isfinite(sizes).all() and sizes[1] > 0.0
    return float(np.sqrt(sizes[0] / sizes[1])) if is_known else 1.0
