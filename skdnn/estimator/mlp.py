"""MLPClassifier's fitted state, brought into the form that this package trains on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted

from ..training.rows import Rows
from .architecture import Architecture, InputColumns
from .fitted import Model, set_fitted
from .fitting import first_state, make_plan
from .parameters import Parameters, resolve

COPIED_ATTRIBUTES = (
    "n_features_in_",
    "feature_names_in_",
    "loss_",
    "best_loss_",
    "best_validation_score_",
    "n_iter_",
)


def check_mlp(mlp: Any) -> None:
    """Refuse what is not a fitted MLPClassifier of two classes."""
    if not isinstance(mlp, MLPClassifier):
        raise TypeError(f"from_mlp takes an MLPClassifier, got {type(mlp).__name__}.")
    check_is_fitted(mlp)
    if mlp.n_outputs_ != 1 or len(mlp.classes_) != 2:
        raise ValueError(
            "Only binary classification is supported: the MLPClassifier has "
            f"{mlp.n_outputs_} outputs for the classes {list(mlp.classes_)!r}."
        )


def take_over(estimator: Any, mlp: MLPClassifier) -> None:
    """Give an estimator, which has its parameters, the fitted state of an MLPClassifier."""
    parameters = resolve(Parameters.of(estimator), {}, n_samples=1)
    model = Model.of(
        Architecture.of(parameters, InputColumns(mlp.n_features_in_)),
        encoder=None,
        classes=mlp.classes_,
        resolved_params={},
    )
    network = model.network
    one_row = Rows(np.zeros((1, mlp.n_features_in_)), np.zeros(1))
    plan = make_plan(parameters, network, one_row)
    state = first_state(plan, mlp.random_state, mlp.coefs_[0].dtype)
    state.n_samples_seen = int(mlp.t_)

    def flatten(coefs: list[np.ndarray], intercepts: list[np.ndarray], flat: np.ndarray) -> None:
        for kind, arrays in (("W", coefs), ("b", intercepts)):
            names = [name for name in network.layout.specs if name.endswith(f".{kind}")]
            for name, array in zip(names, arrays, strict=True):
                view = network.layout.view(flat, name)
                view[0] = array.reshape(view.shape[1:])

    flatten(mlp.coefs_, mlp.intercepts_, state.params)
    moments = _moments(mlp)
    state.optimizer["step"] = int(getattr(getattr(mlp, "_optimizer", None), "t", 0))
    for name, flat in state.optimizer["arrays"].items():
        values = moments.get(name.rpartition(".")[2])
        if values is not None:
            n_layers = len(values) // 2
            flatten(values[:n_layers], values[n_layers:], flat)
    state.final_params = state.params.copy()
    state.history = _history(mlp)
    state.n_epochs_before = len(state.history["loss"]) - mlp.n_iter_
    state.best_iter = len(state.history["loss"])
    if scores := state.history.get("validation_score"):
        state.best_iter = int(np.argmax(scores)) + 1
    copied = {name: getattr(mlp, name) for name in COPIED_ATTRIBUTES if hasattr(mlp, name)}
    set_fitted(estimator, model, state, **copied)


def _history(mlp: MLPClassifier) -> dict[str, list[float]]:
    """Return its loss curve, which has the penalty within it, in the form of ours."""
    curve = list(getattr(mlp, "loss_curve_", []))
    unknown = [np.nan] * len(curve)
    history = {"loss": curve, "penalty": [0.0] * len(curve)}
    scores = getattr(mlp, "validation_scores_", None)
    if scores is not None:
        history |= {"validation_loss": unknown.copy(), "validation_score": list(scores)}
    return history | {"learning_rate": unknown.copy(), "seconds": unknown.copy()}


def _moments(mlp: MLPClassifier) -> dict[str, list[np.ndarray]]:
    """Return the arrays of its optimizer by our names."""
    optimizer = getattr(mlp, "_optimizer", None)
    names = {"first_moment": "ms", "second_moment": "vs", "velocity": "velocities"}
    return {
        name: getattr(optimizer, theirs)
        for name, theirs in names.items()
        if hasattr(optimizer, theirs)
    }
