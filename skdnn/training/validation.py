"""Validation: how good weights are on rows that they were not trained on."""

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

from ..nn.losses import Loss
from .rows import Rows, checksum, row_bytes
from .state import TrainingPlan

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]

N_DECIMALS = 12
"""Of a score; what is beyond is rounding of sums, which must not decide what is better."""

MOST_REPEATED = 1_000_000
"""Largest number of rows for a scorer without weights, for which rows are repeated."""

TEMPERATURE_TOLERANCE = 1e-3
"""Tolerance of the inverse of the best temperature of an epoch; the loss then errs by 1e-7."""

SUREST_MEMBER = 2.0
"""Temperature up to which members may be overconfident while their average is not."""


@dataclass(frozen=True)
class Validation:
    """Rows to evaluate each epoch on, and the score to evaluate, if it is not the loss.

    Members are judged by all rows, or by those that each of them holds out of its training. Few
    rows are these to choose an epoch by: what counts then is the loss of all that are held out
    (see `find_least_loss`), or their score, one number for all members.

    Attributes
    ----------
    rows : Rows
        Where members hold out rows, all to train on, with the labels as they were.
    places : ndarray of int of shape (n_samples,) or (n_members, n_samples)
        Of the rows to judge by, the same for all members or each one's own. A member with fewer
        rows than another has one of them repeated, with weight zero.
    y : ndarray of shape (1, n_samples) or (n_members, n_samples)
        Their labels.
    weight : ndarray of shape (1, n_samples) or (n_members, n_samples)
        A member's mean loss is its own, or its share of that over all rows that are held out.
    score : callable or None
        ``score(params, logits)``, where greater is better: each member's, of shape (n_members,), or
        one of all rows held out; see `make_score`.
    name : str
        Of the score; scores of different names are not compared.
    """

    rows: Rows
    places: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    score: Score | None
    name: str

    def judge(
        self, loss: Loss, params: np.ndarray, logits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each member's loss, objective and score, by its logits on the rows held out.

        Where members hold out rows, each is the same number for all of them, and the loss to judge
        by is that of `find_least_loss`.
        """
        n_rows = logits.shape[1]
        own = loss.total(self.y, logits, self.weight) / n_rows
        score = None if self.score is None else self.score(params, logits)
        if self.rows.is_held_out is not None:
            if score is None:

                def pooled_loss(factor: float) -> float:
                    total = loss.total(self.y, logits * factor, self.weight)
                    return float((total / n_rows).sum())

                is_finite = np.isfinite(logits).all()
                score = np.array(-find_least_loss(pooled_loss) if is_finite else -np.inf)
            own, score = np.full(len(own), own.sum()), np.full(len(own), score)
        if score is None:
            return own, own, -own
        return own, np.round(-score, N_DECIMALS), score


def make_validation(estimator: Any, scoring: Any, rows: Rows) -> Validation:
    """Return what to judge by: rows held out by members, or the same for all.

    Members that hold out the same row share its weight.

    Raises
    ------
    ValueError
        If the weights of all rows that are held out are negligible.
    """
    is_loss = isinstance(scoring, str) and scoring == "loss"
    score = None if is_loss else make_score(estimator, scoring, rows)
    name = getattr(scoring, "__qualname__", repr(scoring))  # the same in another process
    rows, is_held_out = rows.normalize_weights(), rows.is_held_out
    if is_held_out is None:
        weight = rows.weights.astype(rows.y.dtype, copy=False)
        return Validation(rows, np.arange(len(rows)), rows.y[None], weight[None], score, name)
    n_own = is_held_out.sum(axis=1, keepdims=True)
    is_own = np.arange(n_own.max()) < n_own
    places = np.zeros(is_own.shape, np.min_scalar_type(len(rows)))
    places[is_own] = np.nonzero(is_held_out)[1]
    share = rows.weights * (1.0 / np.maximum(is_held_out.sum(axis=0), 1))
    weight = np.where(is_own, share[places], 0.0).astype(rows.y.dtype)
    total = weight.sum(dtype=np.float64)
    if total == 0.0:
        raise ValueError(
            "sample_weight of all rows that are held out is next to nothing beside that of others, "
            "and there is nothing to validate by. Bring the weights nearer together, or set "
            "early_stopping=False."
        )
    weight *= places.shape[1] / total
    return Validation(rows, places, rows.y[places], weight, score, name)


def fingerprint(plan: TrainingPlan, rows: Rows, validation: Validation | None) -> int:
    """Return a checksum of the rows and of what defines the objective on them."""
    parts: list[Any] = [f"{plan.loss} {plan.l2} {plan.ema_decay > 0.0}".encode()]
    if validation is not None:
        parts.append(validation.name.encode())
    for part in (rows, *([] if validation is None else [validation.rows])):
        X = part.X
        parts += [X.data, X.indices, X.indptr] if issparse(X) else [X]
        parts += [part.y, part.sample_weight, part.is_held_out]
    return checksum(*parts)


def pool_logits(is_held_out: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the logit of the mean probability of the members that hold out each row.

    It is NaN where no member holds a row out.

    Parameters
    ----------
    is_held_out : ndarray of bool of shape (n_members, n_rows)
    logits : ndarray of shape (n_members, n_samples)
        Of the rows at `Validation.places`.
    """
    log_p = np.full((2, is_held_out.shape[1]), -np.inf)
    for is_own, own in zip(is_held_out, logits.astype(np.float64), strict=True):
        z = own[: np.count_nonzero(is_own)]
        log_p[:, is_own] = np.logaddexp(log_p[:, is_own], log_expit([-z, z]))
    with np.errstate(invalid="ignore"):
        return log_p[1] - log_p[0]


def make_score(estimator: Any, scoring: Any, rows: Rows) -> Score:
    """Return ``score(params, logits)``.

    It returns each member's score on the rows, by an estimator with that member alone. Where
    members hold out rows, it is one number of all these rows, each predicted by the members that
    hold it out: by their logits at `Validation.places`. The scorer sees labels as the user gave
    them.

    Raises
    ------
    ValueError
        If the rows have weights that the scorer does not take; by `score`, if the scorer fails.
    """
    scorer, is_held_out = check_scoring(estimator, scoring), rows.is_held_out
    index = np.arange(len(rows))
    if is_held_out is not None:
        index = np.flatnonzero(is_held_out.any(axis=0))
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

    def score(params: np.ndarray, logits: np.ndarray) -> np.ndarray:
        if is_held_out is None:
            members = enumerate(params[:, np.newaxis])
            return np.array([evaluate(estimator._for_encoded_rows(p, m)) for m, p in members])
        if not np.isfinite(logits).all():
            return np.array(np.nan)
        model = estimator._for_encoded_rows(params)
        pooled = pool_logits(is_held_out, logits)[index]
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
