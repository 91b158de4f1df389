"""Scores of scikit-learn, by validation rows or by all rows that members hold out."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import check_scoring

from .folds import Folds, find_unit
from .rows import Rows, row_bytes

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
        answers = _Answers(X, held_out.pool(held_out_logits)[index])
        model._predict_logits = answers.predict_logits  # all other predictions come from these
        return np.array(judge(model))

    return score


def name_score(scoring: Any) -> str:
    """Return a name that stays the same in another process."""
    return getattr(scoring, "__qualname__", repr(scoring))


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


class _Answers:
    """What is known of some rows, for an estimator that is asked for all or some of them.

    Rows that are alike are told apart only where it is asked for all.

    Parameters
    ----------
    X : {ndarray, CSR matrix or array} of shape (n_samples, n_features)
    logits : ndarray of shape (n_samples,)
    """

    def __init__(self, X: Any, logits: np.ndarray) -> None:
        self.X, self.logits = X, logits

    def predict_logits(self, X: Any) -> tuple[np.ndarray, np.dtype]:
        """Return the logits of some rows, and the dtype of predictions."""
        return self._find(X), self.logits.dtype

    def _find(self, X: Any) -> np.ndarray:
        if X is self.X:
            return self.logits
        X = X if issparse(X) else np.ascontiguousarray(X, self.X.dtype)
        asked, known = list(row_bytes(X)), list(row_bytes(self.X))
        if asked == known:
            return self.logits
        found: dict[bytes, list[float]] = {}
        for key, logit in zip(known, self.logits.tolist(), strict=True):
            found.setdefault(key, []).append(logit)
        if not found.keys() >= set(asked):
            raise ValueError(
                "The rows held out are predicted by the networks that did not train on them, and "
                "a scorer can ask for these rows only, all or some, but not for others. Pass X_val "
                "and y_val to have each network judged by itself, on any rows."
            )
        return np.array([np.mean(found[key]) for key in asked])


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
