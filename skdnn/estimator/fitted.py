"""From a training that is over to the fitted attributes of an estimator, and back to go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from typing import Any

import numpy as np

from .._layout import Layout
from ..training.rows import checksum
from ..training.state import TrainingPlan, TrainingState
from ..utils import CALLBACK_STATE

DENSE_PARAMETER = re.compile(r"(^|\.)dense_\d+\.\w+$")
"""Names of the parameters of linear steps, which MLPClassifier has too."""


def keep_training(estimator: Any, state: TrainingState) -> None:
    """Turn the state of training into fitted attributes, which it sets.

    What an earlier fit knew of rows that it had not trained on is forgotten.
    """
    vars(estimator).pop("oof_decision_function_", None)
    vars(estimator).update(attributes_of(estimator, state))


def attributes_of(estimator: Any, state: TrainingState) -> dict[str, Any]:
    """Return the fitted attributes that the state of training becomes; they share its arrays."""
    resume = {
        field.name: getattr(state, field.name)
        for field in fields(state)
        if field.name not in ("final_params", "history")
    }
    return {
        "params_": state.final_params,
        "temperature_": 1.0,
        "n_layers_": len(estimator._architecture["hidden_layer_sizes"]) + 2,
        "n_outputs_": 1,
        "out_activation_": "logistic",
        **describe_training(state),
        "_resume": resume | {"checksum": checksum(state.final_params)},
    }


def resume_training(estimator: Any, plan: TrainingPlan) -> TrainingState:
    """Return a copy of the state that training ended in, so that a failure leaves no trace.

    A fit may go on with its progress, and a stream with its next part. What follows anything else
    begins with the weights that were kept; so does what follows weights that the user has set.
    """
    history = {name: values.copy() for name, values in estimator.history_.items()}
    resume = deepcopy(estimator._resume)
    is_untouched = resume.pop("checksum") == checksum(estimator.params_)
    state = TrainingState(history=history, **resume)
    state.n_epochs_before = len(history.get("loss", []))
    state.final_params = estimator.params_.copy()
    is_known = is_untouched and plan.optimizer.can_continue(state.optimizer)
    if not is_known or (plan.is_part and state.progress is not None):
        state.begin_anew(plan)
    return state


def describe_training(state: TrainingState) -> dict[str, Any]:
    """Return the fitted attributes but for the weights; lists in them belong to the state."""
    history = state.history
    curve = np.add(history.get("loss", []), history.get("penalty", [])).tolist()
    scores = history.get("validation_score")
    return {
        "history_": history,
        "loss_curve_": curve,
        "loss_": curve[-1] if curve else np.nan,
        "best_loss_": _best(np.nanmin, curve) if scores is None else None,
        "validation_scores_": scores,
        "best_validation_score_": None if scores is None else _best(np.nanmax, scores),
        "best_iter_": state.best_iter,
        "n_iter_": len(curve) - state.n_epochs_before,
        "t_": state.n_samples_seen,
    }


def _best(choose: Any, values: list[float]) -> float:
    """Return the least or greatest of some values, if one of them is a number."""
    return float(choose(values)) if np.isfinite(values).any() else np.nan


def view_dense(layout: Layout, params: np.ndarray, name: str) -> list[np.ndarray]:
    """View the weights "W", or the biases "b", of each linear step; a single member has no axis."""
    entries = [e for e in layout.entries if DENSE_PARAMETER.search(e) and e.endswith(f".{name}")]
    views = [layout.view(params, entry) for entry in entries]
    return [view[0] for view in views] if len(params) == 1 else views


@contextmanager
def unchanged_by_failure(estimator: Any) -> Iterator[None]:
    """Leave a fitted estimator as it was if fitting it again fails."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        before |= {name: vars(estimator)[name] for name in CALLBACK_STATE & set(vars(estimator))}
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
