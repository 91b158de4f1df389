"""Rows that are not trained on: which ones, what the network says of them, and its temperature."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from ._calibration import fit_temperature
from ._explanations import average_logits
from ._folds import Folds, deal_folds, out_of_fold_logits
from ._rows import Rows, split_validation
from ._state import TrainingPlan, TrainingState


def hold_out(
    estimator: Any, plan: TrainingPlan, state: TrainingState, rows: Rows, given: Rows | None
) -> tuple[Rows, Rows | None, Folds | None]:
    """Return the rows to train on, those to validate on if there are to be any, and the folds.

    With folds both are the same rows, of which each member leaves out its own.
    """
    held_out, folds = given, None
    if held_out is None and plan.stops_early:
        n_members = plan.network.n_members
        rng = deepcopy(state.streams.split)  # a warm start splits the same rows again
        if n_members > 1 and estimator.solver != "lbfgs":
            held_out = rows
            folds = deal_folds(rows, n_members, estimator.validation_fraction, rng)
        else:
            rows, held_out = split_validation(rows, estimator.validation_fraction, rng)
    has_unseen = folds is not None or (held_out is not None and held_out is not rows)
    if estimator.calibration is not None and not has_unseen:
        raise ValueError(
            f"calibration={estimator.calibration!r} needs rows that were not trained on, and "
            f"early_stopping={estimator.early_stopping!r} holds none out here. Set it to True, "
            "pass X_val and y_val (or more rows that differ), or set calibration to None."
        )
    return rows, held_out, folds


def judge_unseen(
    estimator: Any, X: Any, rows: Rows, held_out: Rows | None, folds: Folds | None
) -> None:
    """Predict rows by members that did not train on them, and calibrate by these.

    The estimator, which has been trained, gets its `oof_decision_function_` and `temperature_`.
    """
    network, params = estimator._network, estimator.params_
    if folds is not None:
        logits = out_of_fold_logits(network, params, rows.X, folds.of_row, folds)
        estimator.oof_decision_function_ = _in_given_order(estimator, logits, X, rows)
    else:
        forget_unseen(estimator)
    if estimator.calibration is not None and held_out is not None:
        if folds is None:
            logits = average_logits(network.logits(params, held_out.X))
        is_known = np.isfinite(logits)
        weight = None if held_out.sample_weight is None else held_out.sample_weight[is_known]
        estimator.temperature_ = fit_temperature(logits[is_known], held_out.y[is_known], weight)
        if folds is not None:
            estimator.oof_decision_function_ /= estimator.temperature_


def forget_unseen(estimator: Any) -> None:
    """Forget what an earlier fit knew of rows that it had not trained on."""
    vars(estimator).pop("oof_decision_function_", None)


def _in_given_order(estimator: Any, logits: np.ndarray, X: Any, rows: Rows) -> np.ndarray:
    """Return the logit of each row of X; rows without weight were seen by no member."""
    if rows.place is None:
        return logits
    logits = np.append(logits, np.nan)[rows.place]
    is_unseen = np.flatnonzero(rows.place < 0)
    if len(is_unseen):
        logits[is_unseen] = estimator.decision_function(_safe_indexing(X, is_unseen))
    return logits
