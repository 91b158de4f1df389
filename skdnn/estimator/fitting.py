"""A fit: its preparation, its training, and its fitted attributes; and the import of MLPClassifier.

The only module of the estimator that calls the training loop.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..nn.losses import make_loss, smooth_labels
from ..nn.network import Layout, Network
from ..optim.schedules import Constant, CosLog4, Schedule, make_schedule
from ..optim.solvers import make_optimizer
from ..optim.transforms import Optimizer, chain
from ..preprocessing import TabularEncoder
from ..training.bins import fit_bins
from ..training.folds import FEWEST_FOLDS, repeat_counted
from ..training.interrupt import listen_for_interrupts
from ..training.lbfgs import train_lbfgs
from ..training.loop import train
from ..training.rows import Rows
from ..training.state import RandomStreams, TrainingPlan, TrainingState, first_optimizer_state
from ..training.threads import resolve_n_jobs
from ..training.validation import (
    Validation,
    can_calibrate,
    evaluate_out_of_fold,
    hold_out,
    make_score,
)
from .architecture import Architecture, InputColumns, count_embedded
from .encoders import get_encoder
from .explanations import sample_rows
from .fitted import (
    Model,
    as_it_is_now,
    has_training,
    make_tasks,
    resume_training,
    set_fitted,
    unchanged_by_failure,
)
from .parameters import (
    FULL_BATCH,
    Parameters,
    ResolvedParameters,
    check_for_lbfgs,
    check_representable,
    choose_batch_size,
    name_choices,
    resolve,
)
from .tables import Given, read_training_tables

MOST_REPEATED = 1_000
"""Largest number of rows after rows were repeated by their counts."""

ALL_ROWS = sys.maxsize
"""Not the number of rows, which grows when some are cut into parts."""

AUTO_PATIENCE = 10
CYCLE_GROWTH = 1.5
"""A cycle of "coslog4" is a little over twice as long as all those before it."""

POOLED_PATIENCE, POOLED_GROWTH = 6, 0.2
"""The loss of all rows is less noisy than that of a few, so that less patience is needed."""

COPIED_ATTRIBUTES = (
    "n_features_in_",
    "feature_names_in_",
    "loss_",
    "best_loss_",
    "best_validation_score_",
    "n_iter_",
)
"""Attributes of an MLPClassifier that are copied."""

MLP_ARRAYS = {"first_moment": "ms", "second_moment": "vs", "velocity": "velocities"}
"""Names of the arrays of optimizers in an MLPClassifier."""


class Training(NamedTuple):
    """A training that can begin: all is checked, and the estimator still as it was."""

    given: Given
    parameters: Parameters  # as they were set
    is_calibrated: bool
    model: Model
    plan: TrainingPlan
    state: TrainingState
    rows: Rows  # to train on; they know their groups
    validation: Rows | None  # if some are given


def fit(estimator: Any, given: Given) -> None:
    """Fit the estimator, as `fit` and `partial_fit` do; leave it as it was if that fails."""
    with unchanged_by_failure(estimator):
        run(estimator, prepare(estimator, given))


def prepare(estimator: Any, given: Given) -> Training:
    """Check everything, and return all that training needs."""
    parameters = Parameters.of(estimator)
    continues = (given.is_part or parameters.warm_start) and has_training(estimator)
    rows, validation, encoder, classes = read_training_tables(
        estimator, parameters, given, continues=continues
    )
    if not given.is_part:
        rows = _merge_identical(rows, parameters)
    n_embedded = count_embedded(encoder, rows.X, parameters.numeric_embedding)
    resolved = resolve(
        parameters,
        estimator.resolved_params_ if continues else {},
        n_samples=len(rows),
        n_columns=rows.X.shape[1],
        n_embedded=n_embedded,
        encoder=get_encoder(encoder),
        dtype=rows.X.dtype,
        is_part=given.is_part,
        is_validated=validation is not None,
    )
    columns = InputColumns.of(encoder, rows.X, n_embedded, resolved.numeric_embedding)
    architecture = Architecture.of(resolved, columns)
    if continues:
        _check_same_network(parameters, architecture, estimator._architecture)
    choices = name_choices(parameters, resolved)
    model = Model.of(architecture, encoder=encoder, classes=classes, resolved_params=choices)
    plan = make_plan(
        resolved,
        model.network,
        rows,
        is_part=given.is_part,
        is_validated=validation is not None,
        is_scaled=isinstance(encoder, TabularEncoder),
    )
    if continues:
        state = resume_training(estimator, plan)
    else:
        state = first_state(plan, parameters.random_state, rows.X.dtype)
    is_calibrated = resolved.calibration is not None
    return Training(given, parameters, is_calibrated, model, plan, state, rows, validation)


def run(estimator: Any, training: Training) -> None:
    """Train, and set the fitted attributes."""
    given, parameters, is_calibrated, model, plan, state, rows, held_out = training
    folds = validation = None
    if not plan.is_part:
        rows, held_out, folds = hold_out(parameters, plan, state, rows, held_out)
        if is_calibrated and not can_calibrate(parameters, model.classes, held_out, folds):
            is_calibrated, model.resolved_params["calibration"] = False, None
        rows = rows.normalize_weights()
    if state.final_params is None:
        fit_bins(plan.network, state.params, rows, folds)
    set_fitted(estimator, model, as_it_is_now(state) if state.final_params is None else state)
    if held_out is not None:
        held_out = held_out.normalize_weights()
        score = make_score(estimator, parameters.scoring, held_out, folds)
        scoring = parameters.scoring  # of its names this is the same in another process
        name = getattr(scoring, "__qualname__", repr(scoring))
        validation = Validation(held_out, score, name, folds)
    tasks = make_tasks(estimator, given, model, state)
    smoothed = replace(rows, y=smooth_labels(rows.y, parameters.label_smoothing))
    run_training = train_lbfgs if parameters.solver == "lbfgs" else train

    def finish() -> None:
        others = evaluate_out_of_fold(estimator, given.X, rows, held_out, folds, is_calibrated)
        if not plan.is_part:
            others |= sample_rows(model.encoder, rows)
        set_fitted(estimator, model, state, **others)
        tasks.end_fit()

    with listen_for_interrupts() as interrupt:
        run_training(plan, state, smoothed, validation, tasks, interrupt)
        interrupt.complete(lambda: set_fitted(estimator, model, state))
        interrupt.follow_training(finish)


def _merge_identical(rows: Rows, parameters: Parameters) -> Rows:
    """Merge identical rows if all rows form one batch."""
    if len(rows) > choose_batch_size(parameters, len(rows)):
        return rows
    rows = rows.merge_identical()
    return rows if parameters.solver in FULL_BATCH else repeat_counted(rows, MOST_REPEATED)


def _check_same_network(parameters: Parameters, wanted: Architecture, known: Architecture) -> None:
    """Refuse to go on with another network than the one that has been trained."""
    free = ["dropout"] if isinstance(parameters.dropout, str) else []  # it changes no parameter
    changed = [name for name in wanted.changes(known) if name not in free]
    if changed:
        raise ValueError(
            f"Training can only go on with the same network, but {', '.join(changed)} changed "
            "since the first fit. Set them back, or train anew with warm_start=False."
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
    check_representable(parameters, rows.X.dtype)
    is_lbfgs = parameters.solver == "lbfgs"
    l2 = parameters.alpha / (float(rows.weights.sum()) or 1.0)
    schedule = make_schedule(parameters.learning_rate, parameters.power_t)
    if is_part and schedule.needs_horizon:
        schedule = Constant()
    n_pooled = 0 if is_validated or is_lbfgs else network.n_members
    patience, growth = _choose_patience(parameters, schedule, n_pooled, is_part=is_part)
    return TrainingPlan(
        network=network,
        optimizer=_make_optimizer(parameters, network, l2),
        schedule=schedule,
        loss=make_loss(parameters.loss, focal_gamma=parameters.focal_gamma),
        batch_size=ALL_ROWS if parameters.solver in FULL_BATCH else parameters.batch_size,
        max_iter=1 if is_part else parameters.max_iter,
        max_fun=parameters.max_fun,
        max_time=np.inf if parameters.max_time is None else parameters.max_time,
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

    `n_pooled` members would be validated together, by all rows that they hold out.
    """
    has_end = is_part or schedule.needs_horizon or parameters.solver == "lbfgs"
    if has_end and not parameters.early_stopping:
        return np.inf, 0.0  # nothing is watched
    if not isinstance(parameters.n_iter_no_change, str):
        return parameters.n_iter_no_change, 0.0
    if isinstance(schedule, CosLog4):
        return AUTO_PATIENCE, CYCLE_GROWTH
    is_pooled = parameters.early_stopping and n_pooled >= FEWEST_FOLDS
    return (POOLED_PATIENCE, POOLED_GROWTH) if is_pooled else (AUTO_PATIENCE, 0.0)


def _make_optimizer(parameters: ResolvedParameters, network: Network, l2: float) -> Optimizer:
    if parameters.solver == "lbfgs":  # SciPy takes the steps
        check_for_lbfgs(parameters)
        return chain()
    return make_optimizer(
        parameters.solver,
        n_decayed=network.layout.n_decayed,
        lr_factors=network.layout.lr_factors,
        l2=l2,
        weight_decay=parameters.weight_decay,
        max_grad_norm=parameters.max_grad_norm,
        momentum=parameters.momentum,
        nesterov=parameters.nesterovs_momentum,
        beta_1=parameters.beta_1,
        beta_2=parameters.beta_2,
        epsilon=parameters.epsilon,
    )


def first_state(plan: TrainingPlan, random_state: Any, dtype: np.dtype) -> TrainingState:
    """Draw the first weights and start everything else at zero."""
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    streams = RandomStreams.spawn(seed, range(plan.network.n_members))
    params = plan.network.init_params(streams.initialization, dtype)
    return TrainingState(
        params=params,
        optimizer=first_optimizer_state(plan, params),
        streams=streams,
        rate_factor=np.ones((len(params), 1), dtype),
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
    parameters = resolve(Parameters.of(estimator), {}, n_samples=1)
    architecture = Architecture.of(parameters, InputColumns(mlp.n_features_in_))
    model = Model.of(architecture, encoder=None, classes=mlp.classes_, resolved_params={})
    one_row = Rows(np.zeros((1, mlp.n_features_in_)), np.zeros(1))
    plan = make_plan(parameters, model.network, one_row)
    state = first_state(plan, mlp.random_state, mlp.coefs_[0].dtype)
    _copy_arrays(mlp, model.network.layout, state)
    state.n_samples_seen = int(mlp.t_)
    state.history = _copy_history(mlp)
    n_epochs = len(state.history["loss"])
    state.n_epochs_before = n_epochs - mlp.n_iter_
    scores = state.history.get("validation_score")
    state.best_iter = int(np.argmax(scores)) + 1 if scores else n_epochs
    copied = {name: getattr(mlp, name) for name in COPIED_ATTRIBUTES if hasattr(mlp, name)}
    set_fitted(estimator, model, state, **copied)
    return estimator


def _copy_arrays(mlp: MLPClassifier, layout: Layout, state: TrainingState) -> None:
    """Copy its weights, and the arrays of its optimizer."""

    def flatten(arrays: list[np.ndarray], flat: np.ndarray) -> None:
        names = [name for kind in ("W", "b") for name in layout.specs if name.endswith(f".{kind}")]
        for name, array in zip(names, arrays, strict=True):
            view = layout.view(flat, name)
            view[0] = array.reshape(view.shape[1:])

    flatten([*mlp.coefs_, *mlp.intercepts_], state.params)
    state.final_params = state.params.copy()
    optimizer = getattr(mlp, "_optimizer", None)
    state.optimizer["step"] = int(getattr(optimizer, "t", 0))
    for name, flat in state.optimizer["arrays"].items():
        kind = name.rpartition(".")[2]
        values = getattr(optimizer, MLP_ARRAYS.get(kind, kind), None)
        if values is not None:
            flatten(values, flat)


def _copy_history(mlp: MLPClassifier) -> dict[str, list[float]]:
    """Return its loss curve, which has the penalty within it, in the form of ours."""
    curve = list(getattr(mlp, "loss_curve_", []))
    unknown = [np.nan] * len(curve)
    history = {"loss": curve, "penalty": [0.0] * len(curve)}
    scores = getattr(mlp, "validation_scores_", None)
    if scores is not None:
        history |= {"validation_loss": unknown.copy(), "validation_score": list(scores)}
    return history | {"learning_rate": unknown.copy(), "seconds": unknown.copy()}
