"""What is written down and printed of each epoch."""

from __future__ import annotations

import numpy as np

from ._course import Course
from ._state import TrainingPlan

History = dict[str, list[float]]


def record(history: History, members: np.ndarray, **values: np.ndarray | float | None) -> None:
    """Append an epoch's values, averaged over some members; not a number where there is none.

    All lists stay of the same length, whatever earlier fits have recorded.
    """
    n_before = max((len(column) for column in history.values()), default=0)
    for name, value in values.items():
        if value is not None:
            if isinstance(value, np.ndarray):
                value = float(value[members].mean()) if members.any() else np.nan
            history.setdefault(name, [np.nan] * n_before).append(value)
    for column in history.values():
        column += [np.nan] * (n_before + 1 - len(column))


def report(plan: TrainingPlan, course: Course, history: History) -> None:
    """Print one line for every `verbose`-th epoch of a course, and for the last."""
    epoch, n_epochs = course.n_epochs, course.n_epochs_planned
    if not plan.verbose or (epoch % plan.verbose and not course.is_over):
        return
    parts = [f"Iteration {epoch:{len(str(n_epochs))}d}/{n_epochs}"]
    parts.append(f"loss = {history['loss'][-1]:.6f}")
    loss, score = (history.get(f"validation_{name}", [np.nan])[-1] for name in ("loss", "score"))
    if not np.isnan(loss):
        parts.append(f"validation loss = {loss:.6f}")
        if score != -loss:
            parts.append(f"validation score = {score:.6f}")
    parts.append(f"learning rate = {history['learning_rate'][-1]:.2e}")
    left = np.mean(history["seconds"][-epoch:]) * (n_epochs - epoch)
    parts.append(f"time left = {left:.1f} s")
    print(", ".join(parts), flush=True)
