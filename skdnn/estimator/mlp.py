"""The import of a fitted MLPClassifier: its network, its parameters and its optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_is_fitted

from ..nn.network import Layout
from ..training.rows import Rows
from .architecture import Architecture, InputColumns, build_network
from .fitted import set_prepared, set_trained
from .fitting import first_state, make_plan
from .parameters import Parameters, resolve

COPIED = (
    "n_features_in_",
    "feature_names_in_",
    "loss_",
    "best_loss_",
    "best_validation_score_",
    "n_iter_",
)
"""Attributes that are copied."""

ARRAYS = {"first_moment": "ms", "second_moment": "vs", "velocity": "velocities"}
"""Names of the arrays of optimizers, here and there."""


def from_mlp(cls: type, mlp: Any) -> Any:
    """Return an estimator of a class with the parameters and the state of an MLPClassifier."""
    if not isinstance(mlp, MLPClassifier):
        raise TypeError(f"from_mlp takes an MLPClassifier, got {type(mlp).__name__}.")
    check_is_fitted(mlp)
    if mlp.n_outputs_ != 1 or len(mlp.classes_) != 2:
        raise ValueError(
            "Only binary classification is supported: the MLPClassifier has "
            f"{mlp.n_outputs_} outputs for the classes {list(mlp.classes_)!r}."
        )
    estimator = cls(**mlp.get_params())
    one_row = Rows(np.zeros((1, mlp.n_features_in_), mlp.coefs_[0].dtype), np.zeros(1))
    parameters, chosen = resolve(Parameters.of(estimator), {}, one_row)
    architecture = Architecture.of(parameters, InputColumns(mlp.n_features_in_))
    network = build_network(architecture)
    plan = make_plan(parameters, network, one_row)
    state = first_state(plan, mlp.random_state, one_row.X.dtype)
    state.params = _flatten(mlp.coefs_, mlp.intercepts_, network.layout)
    state.final_params = state.params.copy()
    optimizer = getattr(mlp, "_optimizer", None)
    state.optimizer["step"] = int(getattr(optimizer, "t", 0))
    for name in state.optimizer["arrays"]:
        arrays = getattr(optimizer, ARRAYS.get(name, ""), None)
        if arrays is not None:
            n = len(mlp.coefs_)
            flat = _flatten(arrays[:n], arrays[n:], network.layout)
            state.optimizer["arrays"][name] = flat
    # The penalty is within its loss.
    curve, scores = list(getattr(mlp, "loss_curve_", [])), getattr(mlp, "validation_scores_", None)
    state.history = {"loss": curve, "penalty": [0.0] * len(curve)}
    state.history |= {"validation_score": list(scores)} if scores else {}
    state.n_epochs_before = len(curve) - mlp.n_iter_
    state.best_iter = int(np.argmax(scores)) + 1 if scores else len(curve)
    state.n_samples_seen = int(mlp.t_)
    copied = {name: getattr(mlp, name) for name in COPIED if hasattr(mlp, name)}
    set_prepared(estimator, architecture, network, None, mlp.classes_, chosen)
    set_trained(estimator, state)
    vars(estimator).update(copied)
    return estimator


def _flatten(weights: list[np.ndarray], biases: list[np.ndarray], layout: Layout) -> np.ndarray:
    """Return arrays by layer as parameters of a single member: (1, n_params)."""
    flat = np.empty((1, layout.n_params), weights[0].dtype)
    for kind, arrays in (("W", weights), ("b", biases)):
        names = [name for name in layout.specs if name.endswith(f".{kind}")]
        for name, array in zip(names, arrays, strict=True):
            view = layout.view(flat, name)
            view[0] = array.reshape(view.shape[1:])
    return flat
