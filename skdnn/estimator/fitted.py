"""Fitted attributes: they are set here alone, written into files, and restored to a training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..nn.network import Layout, Network
from ..training.prediction import Predictor
from ..training.rows import checksum
from ..training.state import TrainingPlan, TrainingState, can_continue
from ..utils import (
    CALLBACK_STATE,
    add_format,
    check_fields,
    check_types,
    leave_out_callback_state,
    refuse_damage,
    remove_format,
)
from .architecture import Architecture, build_network
from .encoders import Encoder
from .tables import Given

DENSE_PARAMETER = re.compile(r"(^|\.)dense_\d+\.\w+$")
"""Names of the parameters of linear steps, which MLPClassifier has too."""

STORED_TYPES: dict[str, Any] = {
    "_encoder": Encoder,
    "_resume": dict | None,
    "classes_": np.ndarray,
    "executor": str,
    "n_features_in_": Integral,
    "resolved_params_": dict,
    "temperature_": Real,
}
"""Attributes in a file that predictions and warm starts read, with their types."""


def set_prepared(
    estimator: Any,
    architecture: Architecture,
    network: Network,
    encoder: Encoder,
    classes: np.ndarray,
    resolved_params: dict[str, Any],
) -> None:
    """Set the fitted attributes that training does not change.

    Only scikit-learn sets some more, when it checks X: the number and the names of its features.
    Attributes that an earlier fit computed from its rows are deleted.
    """
    for name in ("oof_decision_function_", "_rows_to_explain", "_importances"):
        vars(estimator).pop(name, None)
    vars(estimator).update(
        _architecture=architecture,
        _predictor=Predictor(network),
        _encoder=encoder,
        classes_=classes,
        resolved_params_=resolved_params,
        n_layers_=len(architecture.hidden_layer_sizes) + 2,
        n_outputs_=1,
        out_activation_="logistic",
    )


def set_trained(estimator: Any, state: TrainingState) -> None:
    """Set the fitted attributes that training changes."""
    estimator._predictor.executor = state.executor
    vars(estimator).update(describe_training(state))


def describe_training(state: TrainingState) -> dict[str, Any]:
    """Return the fitted attributes that a training changes; arrays and lists are the state's."""
    curves = describe_history(state.history)
    curve, scores = curves["loss_curve_"], curves["validation_scores_"]
    choose: Any = min if scores is None else max
    best = choose(filter(np.isfinite, curve if scores is None else scores), default=np.nan)
    return {
        "params_": state.final_params,
        "temperature_": 1.0,
        **curves,
        "loss_": curve[-1] if curve else np.nan,
        "best_loss_": best if scores is None else None,
        "best_validation_score_": None if scores is None else best,
        "best_iter_": state.best_iter,
        "n_iter_": len(curve) - state.n_epochs_before,
        "t_": state.n_samples_seen,
        "_resume": state.pack() | {"checksum": checksum(state.final_params)},
    }


def describe_history(history: dict[str, list[float]]) -> dict[str, Any]:
    """Return the fitted attributes that are the history, or columns of it."""
    curve = np.add(history.get("loss", []), history.get("penalty", [])).tolist()
    scores = history.get("validation_score")
    return {"history_": history, "loss_curve_": curve, "validation_scores_": scores}


def as_it_is_now(state: TrainingState) -> TrainingState:
    """Return the state with its present weights as the final ones."""
    return replace(state, final_params=state.weights.copy(), best_iter=state.n_epochs)


def resume_training(estimator: Any, plan: TrainingPlan) -> TrainingState:
    """Return a copy of the state that training ended in, so that a failure leaves no trace.

    A fit may resume its progress, and a stream goes on with its next part. Otherwise, and after the
    user has set the weights, training begins anew with the weights that were kept.
    """
    plan.network.check_params(estimator.params_)
    history = {name: values.copy() for name, values in estimator.history_.items()}
    with refuse_damage("The training state of this model"):
        packed = estimator._resume.copy()
        is_untouched = bool(packed.pop("checksum", None) == checksum(estimator.params_))
        state = TrainingState.unpack(packed, plan.network.n_members, history=history)
    state.n_epochs_before = state.n_epochs
    state.final_params = np.array(estimator.params_)
    is_known = is_untouched and can_continue(plan, state, estimator.params_)
    if not is_known or (plan.is_part and state.progress is not None):
        state.begin_anew(plan)
    return state


def has_training(estimator: Any) -> bool:
    """Say whether there is a training to go on with.

    Raises
    ------
    ValueError
        If there was one, and the model comes from `without_training_state`.
    """
    if not hasattr(estimator, "params_"):
        return False
    if estimator._resume is None:
        raise ValueError(
            "Training cannot go on: the model comes from without_training_state() and has neither "
            "the optimizer's moments nor the average of the weights, the random streams and the "
            "epochs without progress. Go on with the whole model, or train anew by fit with "
            "warm_start=False."
        )
    return True


def copy_without_training_state(estimator: Any, **changed: Any) -> Any:
    """Return a copy that shares its arrays, without what only a training needs, and `changed`."""
    model = object.__new__(type(estimator))
    vars(model).update(leave_out_callback_state(vars(estimator)))
    vars(model).pop("oof_decision_function_", None)
    vars(model).update(_resume=None, **changed)
    return model


def copy_for_encoded_rows(estimator: Any, params: np.ndarray, first_member: int = 0) -> Any:
    """Return a copy with these weights that takes rows as they enter the network, without names."""
    architecture = replace(
        estimator._architecture, n_members=len(params), first_member=first_member
    )
    model = copy_without_training_state(
        estimator,
        _architecture=architecture,
        _predictor=Predictor(build_network(architecture), estimator._predictor.executor),
        _encoder=None,
        n_features_in_=architecture.n_columns,
        params_=params,
        temperature_=1.0,
    )
    vars(model).pop("feature_names_in_", None)
    return model


def pack(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an estimator as they go into a file.

    Plain data with strings for keys, beside encoders and objects of the user's own: a text format
    keeps it. What follows from the rest is left out, and so is what is there during a fit alone.
    """
    state = leave_out_callback_state(state)
    weights = state.get("class_weight")
    if isinstance(weights, dict):  # whose keys are labels: False would come back as "False"
        state["class_weight"] = {"labels": list(weights), "weights": list(weights.values())}
    if "_architecture" in state:
        architecture, predictor = state.pop("_architecture"), state.pop("_predictor")
        state["architecture"] = vars(architecture).copy()
        state["executor"] = predictor.executor
        del state["loss_curve_"], state["validation_scores_"]
        state["history_"] = {name: np.array(v, float) for name, v in state["history_"].items()}
    return add_format(state)


def unpack(estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that an estimator had when they were packed.

    Raises
    ------
    ValueError
        If they are in another format or damaged, as where the weights are of another network.
    """
    state = remove_format(state, estimator)
    with refuse_damage(f"This {type(estimator).__name__}"):
        weights = state.get("class_weight")
        if isinstance(weights, dict):
            state["class_weight"] = dict(zip(weights["labels"], weights["weights"], strict=True))
        if "params_" not in state:
            return state
        check_types(state, STORED_TYPES)
        described = dict(state.pop("architecture"))
        columns = described.pop("columns", {})  # in files from before all was in one
        architecture = Architecture(**described, **columns)
        check_fields(architecture)
        predictor = Predictor(build_network(architecture), state.pop("executor"))
        predictor.network.check_params(state["params_"])
        history = {name: values.tolist() for name, values in state["history_"].items()}
        state |= {"_architecture": architecture, "_predictor": predictor}
        return state | describe_history(history)


def view_dense(layout: Layout, params: np.ndarray, name: str) -> list[np.ndarray]:
    """View the weights "W", or the biases "b", of each linear step; a single member has no axis."""
    entries = [e for e in layout.specs if DENSE_PARAMETER.search(e) and e.endswith(f".{name}")]
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


class FitTasks:
    """Calls scikit-learn's callbacks (from 1.9 on): a task for the fit, and one for each epoch.

    See "Developing estimators compatible with callbacks" in scikit-learn's documentation. At each
    call the estimator predicts, and can be pickled and trained further, like one whose training has
    just ended.

    Parameters
    ----------
    estimator : DeepBinaryClassifier
    given : Given
        What its fit was given. Callbacks are told of X, y and, as further arguments of a score of
        these, the weights.
    state : TrainingState
        Of the training in progress.
    """

    def __init__(self, estimator: Any, given: Given, state: TrainingState) -> None:
        weight, self._state = given.sample_weight, state
        metadata = {} if weight is None else {"sample_weight": weight}
        self._arguments = {"estimator": estimator, "X": given.X, "y": given.y, "metadata": metadata}

    def begin_fit(self, max_epochs: int) -> None:
        self._fit = self._arguments["estimator"]._init_callback_context(max_subtasks=max_epochs)
        self._fit.call_on_fit_task_begin(**self._arguments)

    def begin_epoch(self) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._arguments)

    def end_epoch(self) -> bool:
        state = as_it_is_now(self._state)
        set_trained(self._arguments["estimator"], state)
        return self._epoch.call_on_fit_task_end(
            **self._arguments,
            reconstruction_attributes=lambda: deepcopy(describe_training(state)),
        )

    def end_fit(self) -> None:
        self._fit.call_on_fit_task_end(**self._arguments, reconstruction_attributes={})
