"""Scores of scikit-learn, computed for each member of a network by itself while it trains."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from inspect import signature
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring

from ._folds import Folds
from ._rows import Rows


def make_score(
    estimator: Any, scoring: Any, rows: Rows, folds: Folds | None = None
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return ``score(params) -> (n_members,)`` on some rows; None stands for the loss.

    With folds, a member's score is that on the rows that it holds out, and not a number if these
    are none. The scorer sees an estimator with one member, and the labels as the user gave them.

    Raises
    ------
    ValueError
        If the rows have weights that the scorer does not take; by `score`, if it cannot judge them.
    """
    if isinstance(scoring, str) and scoring == "loss":
        return None
    scorer = check_scoring(estimator, scoring)
    if rows.sample_weight is not None:
        accepted = signature(scorer).parameters.values()
        if not any(p.name == "sample_weight" or p.kind == p.VAR_KEYWORD for p in accepted):
            raise ValueError(
                f"scoring={scoring!r} does not take sample_weight, but the validation rows have "
                "weights. Let it accept sample_weight=None, or pass a scorer's name."
            )
    parts = [rows]
    if folds is not None:
        n_held_out = min(folds.n_members, folds.n_folds)
        parts = [rows.take(folds.validation_index(member)) for member in range(n_held_out)]
    labels = [estimator.classes_[part.y.astype(np.intp)] for part in parts]

    def score_member(params: np.ndarray, number: int) -> float:
        part, weights = parts[number], {}
        if not len(part):
            return np.nan
        if part.sample_weight is not None:
            weights = {"sample_weight": part.sample_weight}
        try:
            return float(scorer(_member_of(estimator, params), part.X, labels[number], **weights))
        except ValueError as error:
            which = "validation rows" if folds is None else "rows that a member holds out"
            raise ValueError(
                f"scoring={scoring!r} cannot judge the {which}, of which there are {len(part)}: "
                f"{error} Take another score, or more rows."
            ) from error

    def score(params: np.ndarray) -> np.ndarray:
        return np.array([score_member(member, i % len(parts)) for i, member in enumerate(params)])

    return score


def name_score(scoring: Any) -> str:
    """Return a name that stays the same in another process."""
    return getattr(scoring, "__qualname__", repr(scoring))


def _member_of(estimator: Any, params: np.ndarray) -> Any:
    """Return an estimator with one set of weights, which takes rows without names."""
    member = copy(estimator)
    vars(member).pop("feature_names_in_", None)
    member._encoder, member.temperature_ = None, 1.0  # the rows are encoded already
    member.n_features_in_ = estimator._architecture["columns"].n_columns
    member.params_ = params[np.newaxis]
    member._describe({**estimator._architecture, "n_members": 1})
    return member
