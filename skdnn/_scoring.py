"""Scores of scikit-learn, computed for each member of a network by itself while it trains."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from inspect import signature
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring

from ._rows import Rows


def make_score(
    estimator: Any, scoring: Any, rows: Rows
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return ``score(params) -> (n_members,)`` on some rows; None stands for the loss.

    The scorer sees an estimator with one member, and the labels as the user gave them.
    """
    if isinstance(scoring, str) and scoring == "loss":
        return None
    scorer = check_scoring(estimator, scoring)
    labels = estimator.classes_[rows.y.astype(np.intp)]
    weights: dict[str, np.ndarray] = {}
    if rows.sample_weight is not None:
        weights = {"sample_weight": rows.sample_weight}
        accepted = signature(scorer).parameters.values()
        if not any(p.name == "sample_weight" or p.kind == p.VAR_KEYWORD for p in accepted):
            raise ValueError(
                f"scoring={scoring!r} does not take sample_weight, but the validation rows have "
                "weights. Let it accept sample_weight=None, or pass a scorer's name."
            )

    def score(params: np.ndarray) -> np.ndarray:
        members = (_member_of(estimator, member) for member in params)
        return np.array([float(scorer(member, rows.X, labels, **weights)) for member in members])

    return score


def name_score(scoring: Any) -> str:
    """Return a name that stays the same in another process."""
    return getattr(scoring, "__qualname__", repr(scoring))


def _member_of(estimator: Any, params: np.ndarray) -> Any:
    """Return an estimator with one set of weights, which takes rows without names."""
    member = copy(estimator)
    vars(member).pop("feature_names_in_", None)
    member.params_ = params[np.newaxis]
    member._architecture = {**estimator._architecture, "n_members": 1}
    return member
