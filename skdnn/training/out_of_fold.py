"""Rows that are not trained on: which ones, what the network says of them, and its temperature."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from .calibration import average_logits, count_evidence, fit_temperature, relative_size
from .folds import IN_NO_FOLD, Folds, assign_folds, split_validation
from .prediction import Predictor
from .rows import Rows
from .state import TrainingPlan, TrainingState
from .threads import limit_blas_threads

ROWS_TO_COMPARE = 1_000
"""Rows, or a few more, that are looked at to see how members differ from their average."""


def hold_out(
    parameters: Any,
    classes: np.ndarray,
    plan: TrainingPlan,
    state: TrainingState,
    rows: Rows,
    given: Rows | None,
) -> tuple[Rows, Rows | None, Folds | None]:
    """Return the rows to train on, those to validate on if there are to be any, and the folds.

    With folds both are the same rows, of which each member leaves out its own.
    """
    held_out, folds = given, None
    if held_out is None and plan.stops_early:
        n_members = plan.network.n_members
        rng = deepcopy(state.streams.split)  # a warm start splits the same rows again
        if n_members > 1 and parameters.solver != "lbfgs":
            rows, folds = assign_folds(rows, n_members, parameters.validation_fraction, rng)
            held_out = rows
        else:
            rows, held_out = split_validation(rows, parameters.validation_fraction, rng)
    if parameters.calibration is not None:
        _check_can_calibrate(parameters, classes, held_out, folds)
    return rows, held_out, folds


def _check_can_calibrate(
    parameters: Any, classes: np.ndarray, held_out: Rows | None, folds: Folds | None
) -> None:
    """Refuse to calibrate without rows of both classes that were not trained on."""
    labels = np.array([]) if held_out is None else held_out.y
    labels = np.unique(labels if folds is None else labels[folds.of_row != IN_NO_FOLD])
    if len(labels) == 0:
        raise ValueError(
            f"calibration={parameters.calibration!r} needs rows that were not trained on, and "
            f"early_stopping={parameters.early_stopping!r} holds none out here. Set it to True, "
            "pass X_val and y_val, or set calibration to None."
        )
    if len(labels) == 1:
        only = classes.tolist()[int(labels[0])]
        raise ValueError(
            f"calibration={parameters.calibration!r} needs rows of both classes that were not "
            f"trained on, but all of these are of class {only!r}. Pass X_val and y_val with both, "
            "or more rows, or set calibration to None."
        )


def evaluate_out_of_fold(
    estimator: Any, X: Any, rows: Rows, held_out: Rows | None, folds: Folds | None
) -> dict[str, Any]:
    """Predict rows by members that did not train on them, and calibrate by these.

    Returns the fitted attributes `oof_decision_function_` and `temperature_`, as far as there are.
    """
    predictor, params = estimator._predictor, estimator.params_
    judged: dict[str, Any] = {}
    is_calibrated = estimator.calibration is not None
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
    """Return the temperature for logits of some rows; those without one say nothing."""
    is_known = np.isfinite(logits)
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
