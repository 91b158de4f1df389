"""A fit: its preparation, the plan of its training, the training, and what follows.

`fit` is the whole in one function. Only this module of the estimator calls the training loop.
`from_mlp` takes over a training that an MLPClassifier has done.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..nn.losses import make_loss, smooth_labels
from ..nn.network import Layout, Network
from ..optim.schedules import Constant, CosLog4, Schedule, make_schedule
from ..optim.solvers import Optimizer, make_optimizer
from ..preprocessing import TabularEncoder
from ..training.calibration import can_calibrate, evaluate_out_of_fold
from ..training.fitted_layers import fit_bins, fit_target_encoding
from ..training.interrupt import listen_for_interrupts
from ..training.lbfgs import train_lbfgs
from ..training.loop import train
from ..training.rows import FEWEST_FOLDS, Rows, hold_out
from ..training.state import (
    Purpose,
    TrainingPlan,
    TrainingState,
    first_optimizer_state,
    make_stream,
)
from ..training.threads import resolve_n_jobs
from ..training.validation import make_validation
from .architecture import Architecture, build_network, choose_target_encoded
from .explanations import sample_rows
from .fitted import (
    FitTasks,
    as_it_is_now,
    has_training,
    resume_training,
    set_prepared,
    set_trained,
    unchanged_by_failure,
)
from .parameters import FEW_ROWS, FULL_BATCH, Parameters, ResolvedParameters, resolve
from .tables import Given, check_weights_of_part, read_training_tables

ALL_ROWS = sys.maxsize

AUTO_PATIENCE = 10
CYCLE_GROWTH = 1.5
"""A cycle of "coslog4" is a little over twice as long as all those before it."""

AUTO_MAX_FUN = 15_000

POOLED_PATIENCE, PATIENCE_OF_FEW, POOLED_GROWTH = 3, 6, 0.35
"""The loss of all rows is less noisy than that of a few, so that less patience is needed; up to
`FEW_ROWS` of them an epoch has few steps."""


COPIED = (
    *("n_features_in_", "feature_names_in_", "n_iter_"),
    *("loss_", "best_loss_", "best_validation_score_"),
)
"""Attributes of an MLPClassifier that are copied."""

ARRAYS = {"first_moment": "ms", "second_moment": "vs", "velocity": "velocities"}
"""Names of the arrays of optimizers, here and in an MLPClassifier."""


def fit(estimator: Any, given: Given) -> None:
    """Fit the estimator, as `fit` and `partial_fit` do; leave it as it was if that fails."""
    with unchanged_by_failure(estimator):
        parameters, plan, state, rows, held_out = prepare(estimator, given)
        validation = None
        is_calibrated = parameters.calibration is not None
        if not plan.is_part:
            rows, held_out = hold_out(parameters, plan, state, rows, held_out)
            if is_calibrated and not can_calibrate(estimator, estimator.classes_, held_out):
                is_calibrated, estimator.resolved_params_["calibration"] = False, None
            rows = rows.normalize_weights()
            columns = estimator._architecture.target_encoded
            fit_target_encoding(plan.network, columns, state, rows)
        is_first = state.final_params is None
        if is_first:
            fit_bins(plan.network, state.params, rows)
        # Scorers and callbacks see it as fitted.
        set_trained(estimator, as_it_is_now(state) if is_first else state)
        if held_out is not None:
            validation = make_validation(estimator, parameters.scoring, held_out)
        has_callbacks = {"_skl_callbacks", "_parent_callback_ctx"} & vars(estimator).keys()
        tasks = FitTasks(estimator, given, state) if has_callbacks else None
        smoothed = replace(rows, y=smooth_labels(rows.y, parameters.label_smoothing))
        run_training = train_lbfgs if parameters.solver == "lbfgs" else train
        with listen_for_interrupts() as interrupt:
            run_training(plan, state, smoothed, validation, tasks, interrupt)
            set_trained(estimator, state)
        with interrupt.after_training():
            interrupt.check()
            judged = evaluate_out_of_fold(estimator, given.X, validation, is_calibrated)
            sampled = {} if plan.is_part else sample_rows(estimator._encoder, rows)
            vars(estimator).update(judged | sampled)
            if tasks is not None:
                tasks.end_fit()


def prepare(
    estimator: Any, given: Given
) -> tuple[ResolvedParameters, TrainingPlan, TrainingState, Rows, Rows | None]:
    """Check everything, describe the network, and set the attributes that training leaves alone.

    Returns the parameters, the plan and the state of the training, the rows to train on, and those
    to validate on if some are given.
    """
    parameters = Parameters.of(estimator)
    continues = (given.is_part or parameters.warm_start) and has_training(estimator)
    rows, validation, encoder, classes = read_training_tables(
        estimator, parameters, given, continues=continues
    )
    resolved, chosen = resolve(
        parameters,
        estimator.resolved_params_ if continues else {},
        rows,
        encoder,
        is_part=given.is_part,
        is_validated=validation is not None,
    )
    known = estimator._architecture if continues else None
    target_encoded = choose_target_encoded(resolved, encoder, rows.X, known, given.is_part)
    architecture = Architecture.of(resolved, encoder, rows.X, target_encoded)
    if known is not None:
        _check_same_network(architecture, known)
    if resolved.solver == "lbfgs":
        _check_for_lbfgs(resolved)
    network = build_network(architecture)
    plan = make_plan(
        resolved,
        network,
        rows,
        is_part=given.is_part,
        is_validated=validation is not None,
        is_scaled=isinstance(encoder, TabularEncoder),
    )
    state = resume_training(estimator, plan) if continues else first_state(resolved, plan, rows)
    set_prepared(estimator, architecture, network, encoder, classes, chosen)
    return resolved, plan, state, rows, validation


def _check_same_network(wanted: Architecture, known: Architecture) -> None:
    """Refuse to go on with another network than the one that has been trained."""
    names = vars(known).keys() - {"dropout", "initialization"}  # which change no parameter now
    changed = {name for name in names if vars(wanted)[name] != vars(known)[name]}
    if "hidden_layer_sizes" in changed:
        changed -= {"activation"}  # of which there is one for each of them
    if changed:
        raise ValueError(
            f"Training can only go on with the same network, but {', '.join(sorted(changed))} "
            "changed since the first fit. Set them back, or train anew with warm_start=False."
        )


def make_plan(
    parameters: ResolvedParameters,
    network: Network,
    rows: Rows,
    *,
    is_part: bool = False,
    is_validated: bool = False,
    is_scaled: bool = False,
) -> TrainingPlan:
    """Return all decisions that a fit makes before it trains.

    A part of a table, as `partial_fit` gets it, is trained on for an epoch, without early stopping.
    `is_validated` says that there are rows to validate on already, `is_scaled` that an encoder has
    brought the features to one scale. The penalty ``alpha / 2 |W|^2`` stands beside the *sum* of
    the losses, as in MLPClassifier and Ridge.
    """
    is_lbfgs = parameters.solver == "lbfgs"
    l2 = parameters.alpha / (float(rows.weights.sum()) or 1.0)
    schedule = make_schedule(parameters.learning_rate, parameters.power_t)
    if is_part:
        check_weights_of_part(rows)
        schedule = Constant() if schedule.needs_horizon else schedule
    n_pooled = 0 if is_validated or is_lbfgs or network.n_members < FEWEST_FOLDS else len(rows)
    patience, growth = _choose_patience(parameters, schedule, n_pooled, is_part=is_part)
    return TrainingPlan(
        network=network,
        optimizer=Optimizer(()) if is_lbfgs else make_optimizer(parameters, network.layout, l2),
        schedule=schedule,
        loss=make_loss(parameters.loss, focal_gamma=parameters.focal_gamma),
        batch_size=ALL_ROWS if parameters.solver in FULL_BATCH else parameters.batch_size,
        max_iter=1 if is_part else parameters.max_iter,
        max_fun=parameters.max_fun or AUTO_MAX_FUN,
        max_time=parameters.max_time or np.inf,
        learning_rate_init=parameters.learning_rate_init,
        l2=l2,
        shuffle=parameters.shuffle,
        tol=parameters.tol,
        stops_early=parameters.early_stopping,
        n_iter_no_change=patience,
        patience_growth=growth,
        ema_decay=0.0 if is_lbfgs else parameters.ema_decay or 0.0,
        is_adaptive=parameters.learning_rate == "adaptive" and not is_lbfgs,
        is_part=is_part,
        is_scaled=is_scaled,
        n_threads=resolve_n_jobs(parameters.n_jobs),
        verbose=parameters.verbose,
    )


def _choose_patience(
    parameters: ResolvedParameters, schedule: Schedule, n_pooled: int, *, is_part: bool
) -> tuple[float, float]:
    """Return how many epochs to wait for progress, and how many more for each epoch before it.

    Members are validated together by `n_pooled` rows, or each by itself if that is 0.
    """
    has_end = is_part or schedule.needs_horizon or parameters.solver == "lbfgs"
    if has_end and not parameters.early_stopping:
        return np.inf, 0.0  # nothing is watched
    if not isinstance(parameters.n_iter_no_change, str):
        return parameters.n_iter_no_change, 0.0
    if isinstance(schedule, CosLog4):
        return AUTO_PATIENCE, CYCLE_GROWTH
    if n_pooled and parameters.early_stopping:
        return POOLED_PATIENCE if n_pooled > FEW_ROWS else PATIENCE_OF_FEW, POOLED_GROWTH
    return AUTO_PATIENCE, 0.0


def _check_for_lbfgs(parameters: ResolvedParameters) -> None:
    """Refuse what has no meaning where SciPy minimises the cost itself."""
    if np.any(parameters.dropout):
        raise ValueError(
            f"dropout={parameters.dropout!r} makes the cost random, which solver='lbfgs' cannot "
            "minimise. Set dropout=0, or take another solver."
        )
    for name in ("weight_decay", "max_grad_norm", "ema_decay"):
        value = getattr(parameters, name)
        if value:
            raise ValueError(
                f"{name}={value!r} acts on the steps of an optimizer, and has no effect "
                f"on solver='lbfgs'. Leave it at None, or take another solver."
            )


def first_state(parameters: Parameters, plan: TrainingPlan, rows: Rows) -> TrainingState:
    """Draw the first weights and start everything else at zero."""
    seed = check_random_state(parameters.random_state).randint(np.iinfo(np.int32).max)
    purposes: tuple[Purpose, ...] = ("initialization", "shuffling", "dropout")
    initialization, shuffling, dropout = (
        [make_stream(seed, purpose, member) for member in range(plan.network.n_members)]
        for purpose in purposes
    )
    params = plan.network.init_params(initialization, rows.X.dtype)
    return TrainingState(
        params=params,
        optimizer=first_optimizer_state(plan, params),
        seed=seed,
        shuffling=shuffling,
        dropout=dropout,
        rate_factor=np.ones((len(params), 1), params.dtype),
    )


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
    architecture = Architecture.of(parameters, None, one_row.X)
    network = build_network(architecture)
    plan = make_plan(parameters, network, one_row)
    state = first_state(parameters, plan, one_row)
    state.params = _flatten([*mlp.coefs_, *mlp.intercepts_], network.layout)
    state.final_params = state.params.copy()
    optimizer = getattr(mlp, "_optimizer", None)
    state.optimizer["step"] = int(getattr(optimizer, "t", 0))
    for name in state.optimizer["arrays"]:
        arrays = getattr(optimizer, ARRAYS.get(name, ""), None)
        if arrays is not None:
            state.optimizer["arrays"][name] = _flatten(arrays, network.layout)
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


def _flatten(arrays: list[np.ndarray], layout: Layout) -> np.ndarray:
    """Return the weights and then the biases of all layers as those of a member: (1, n_params)."""
    names = sorted(layout.specs, key=lambda name: name.endswith(".b"))
    return layout.flatten(dict(zip(names, arrays, strict=True)))[np.newaxis]
