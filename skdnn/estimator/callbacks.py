"""scikit-learn's callbacks (from 1.9 on): one task for a fit, one below it for each epoch.

See "Developing estimators compatible with callbacks" in scikit-learn's documentation. Results do
not depend on them by a single bit.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ..training.loop import Tasks
from ..training.state import TrainingPlan, TrainingState
from .fitted import Model, as_it_is_now, describe_training, set_fitted
from .tables import Given


class FitTasks(Tasks):
    """Tell the callbacks of an estimator how its fit goes.

    At each call the estimator predicts, goes into a pickle and goes on from there like one whose
    training has just ended.

    Parameters
    ----------
    told : dict
        "estimator", "X" and "y" as the user gave them, and "metadata": what else a score of these
        takes.
    model : Model
    state : TrainingState
        Of the training that goes on.
    max_epochs : int or None
        None if it is not known.
    """

    def __init__(
        self, told: dict[str, Any], model: Model, state: TrainingState, max_epochs: int | None
    ) -> None:
        self._told, self._model, self._state = told, model, state
        self._fit = told["estimator"]._init_callback_context(max_subtasks=max_epochs)
        self._fit.call_on_fit_task_begin(**told)

    def begin_epoch(self) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def end_epoch(self) -> bool:
        state = as_it_is_now(self._state)
        set_fitted(self._told["estimator"], self._model, state)
        return self._epoch.call_on_fit_task_end(
            **self._told, reconstruction_attributes=lambda: deepcopy(describe_training(state))
        )

    def end_fit(self) -> None:
        self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes={})


def make_tasks(
    estimator: Any, given: Given, model: Model, plan: TrainingPlan, state: TrainingState
) -> Tasks:
    """Return what is to be told of each epoch: the callbacks, if there are any."""
    if not hasattr(estimator, "_skl_callbacks") and not hasattr(estimator, "_parent_callback_ctx"):
        return Tasks()
    is_new = state.progress is None and estimator.solver != "lbfgs"
    # Callbacks hand the metadata to scorers, together with X and y: weights of these, if any.
    weight = given.sample_weight
    metadata = {} if weight is None else {"sample_weight": weight}
    told = {"estimator": estimator, "X": given.X, "y": given.y, "metadata": metadata}
    return FitTasks(told, model, state, plan.max_iter if is_new else None)
