"""What an estimator tells of a training that is over: its fitted attributes but for the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._state import TrainingState


def describe_training(state: TrainingState) -> dict[str, Any]:
    """Return the fitted attributes; lists in them belong to the state."""
    history, course = state.history, state.course
    curve = np.add(history.get("loss", []), history.get("penalty", [])).tolist()
    scores = history.get("validation_score")
    n_done = len(curve)
    best_iter = n_done
    if scores is not None and course is not None:
        best_iter = n_done - course.n_epochs + int(course.best_epoch.max())
    return {
        "history_": history,
        "loss_curve_": curve,
        "loss_": curve[-1] if curve else np.nan,
        "best_loss_": _best(np.nanmin, curve) if scores is None else None,
        "validation_scores_": scores,
        "best_validation_score_": None if scores is None else _best(np.nanmax, scores),
        "best_iter_": best_iter,
        "n_iter_": n_done - state.n_epochs_before,
        "t_": state.n_samples_seen,
    }


def _best(choose: Any, values: list[float]) -> float:
    """Return the least or greatest of some values, if one of them is a number."""
    return float(choose(values)) if np.isfinite(values).any() else np.nan
