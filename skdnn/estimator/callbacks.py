"""scikit-learn's callbacks (from 1.9 on): one task for a fit, one below it for each epoch.

See "Developing estimators compatible with callbacks" in scikit-learn's documentation. Results do
not depend on them by a single bit.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

from ..training.progress import NO_TASKS, Tasks
from ..training.state import TrainingPlan, TrainingState
from .fitted import attributes_of, keep_training


class FitTasks(Tasks):
    """Tell the callbacks of an estimator how its fit goes.

    Parameters
    ----------
    estimator : estimator with callbacks
    X, y : array-like
        As the user gave them.
    metadata : dict
        What else a score of these takes: weights, if the user gave any.
    state : TrainingState
        What the estimator is made of at each call, so that it predicts, goes into a pickle and goes
        on from there like one whose training has just ended.
    max_epochs : int or None
        None if it is not known.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        metadata: dict[str, Any],
        state: TrainingState,
        max_epochs: int | None,
    ) -> None:
        self._given = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": metadata,
        }
        self._state = state
        keep_training(estimator, state if state.final_params is not None else self._state_now)
        self._fit = estimator._init_callback_context(max_subtasks=max_epochs)
        self._fit.call_on_fit_task_begin(**self._given)

    def begin_epoch(self) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._given)

    def end_epoch(self) -> bool:
        estimator, state = self._given["estimator"], self._state_now
        keep_training(estimator, state)
        return self._epoch.call_on_fit_task_end(
            **self._given,
            reconstruction_attributes=lambda: deepcopy(attributes_of(estimator, state)),
        )

    def end_fit(self) -> None:
        self._fit.call_on_fit_task_end(**self._given, reconstruction_attributes={})

    @property
    def _state_now(self) -> TrainingState:
        """The state, with the weights as they are now for those that are kept."""
        state = self._state
        n_epochs = len(state.history.get("loss", []))
        return replace(state, final_params=state.weights.copy(), best_iter=n_epochs)


def make_tasks(
    estimator: Any, X: Any, y: Any, sample_weight: Any, plan: TrainingPlan, state: TrainingState
) -> Tasks:
    """Return who is to be told of each epoch: the callbacks, if there are any."""
    if not hasattr(estimator, "_skl_callbacks") and not hasattr(estimator, "_parent_callback_ctx"):
        return NO_TASKS
    is_new = state.progress is None and estimator.solver != "lbfgs"
    # Callbacks hand the metadata to scorers, together with X and y: weights of these, if any.
    metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
    return FitTasks(estimator, X, y, metadata, state, plan.max_iter if is_new else None)
