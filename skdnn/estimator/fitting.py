"""A fit: its preparation, its training, and what follows.

`fit` is the whole in one function. Only this module of the estimator calls the training loop.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from ..nn.losses import smooth_labels
from ..preprocessing import TabularEncoder
from ..training.bins import fit_bins
from ..training.interrupt import listen_for_interrupts
from ..training.lbfgs import train_lbfgs
from ..training.loop import train
from ..training.prediction import Predictor
from ..training.rows import Rows
from ..training.state import TrainingPlan, TrainingState
from ..training.target_encoding import fit_target_encoding
from ..training.validation import (
    can_calibrate,
    evaluate_out_of_fold,
    hold_out,
    make_validation,
)
from .architecture import (
    Architecture,
    InputColumns,
    build_network,
    choose_target_encoded,
    count_embedded,
)
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
from .parameters import Parameters, ResolvedParameters, resolve
from .tables import Given, read_training_tables
from .training_plan import first_state, make_plan


class Training(NamedTuple):
    """A training that can begin: all is checked, and the estimator still as it was."""

    parameters: ResolvedParameters
    model: Model
    plan: TrainingPlan
    state: TrainingState
    rows: Rows  # to train on; they know their groups
    held_out: Rows | None  # to validate on, if some are given


def fit(estimator: Any, given: Given) -> None:
    """Fit the estimator, as `fit` and `partial_fit` do; leave it as it was if that fails."""
    with unchanged_by_failure(estimator):
        parameters, model, plan, state, rows, held_out = prepare(estimator, given)
        folds = validation = None
        is_calibrated = parameters.calibration is not None
        if not plan.is_part:
            rows, held_out, folds = hold_out(parameters, plan, state, rows, held_out)
            if is_calibrated and not can_calibrate(estimator, model.classes, held_out, folds):
                is_calibrated, model.resolved_params["calibration"] = False, None
            rows = rows.normalize_weights()
            columns = model.architecture.columns.target_encoded
            fit_target_encoding(plan.network, columns, state, rows, folds)
        is_first = state.final_params is None
        if is_first:
            fit_bins(plan.network, state.params, rows, folds)
        # Scorers and callbacks see it as fitted.
        set_fitted(estimator, model, as_it_is_now(state) if is_first else state)
        if held_out is not None:
            validation = make_validation(estimator, parameters.scoring, held_out, folds)
        tasks = make_tasks(estimator, given, model, state)
        smoothed = replace(rows, y=smooth_labels(rows.y, parameters.label_smoothing))
        run_training = train_lbfgs if parameters.solver == "lbfgs" else train
        with listen_for_interrupts() as interrupt:
            run_training(plan, state, smoothed, validation, tasks, interrupt)
            set_fitted(estimator, model, state)
        with interrupt.after_training():
            interrupt.check()
            judged = evaluate_out_of_fold(estimator, given.X, validation, is_calibrated)
            sampled = {} if plan.is_part else sample_rows(model.encoder, rows)
            vars(estimator).update(judged | sampled)
            if tasks is not None:
                tasks.end_fit()


def prepare(estimator: Any, given: Given) -> Training:
    """Check everything, and return all that training needs."""
    parameters = Parameters.of(estimator)
    continues = (given.is_part or parameters.warm_start) and has_training(estimator)
    rows, validation, encoder, classes = read_training_tables(
        estimator, parameters, given, continues=continues
    )
    n_embedded = count_embedded(encoder, rows.X, parameters.numeric_embedding)
    resolved = resolve(
        parameters,
        estimator.resolved_params_ if continues else {},
        rows,
        get_encoder(encoder),
        n_embedded,
        is_part=given.is_part,
        is_validated=validation is not None,
    )
    known = estimator._architecture.columns if continues else None
    target_encoded = choose_target_encoded(resolved, encoder, rows.X, known, given.is_part)
    columns = InputColumns.of(
        encoder, rows.X, n_embedded, resolved.numeric_embedding, target_encoded
    )
    architecture = Architecture.of(resolved, columns)
    if continues:
        _check_same_network(architecture, estimator._architecture)
    network = build_network(architecture)
    model = Model(architecture, Predictor(network), encoder, classes, resolved.chosen)
    plan = make_plan(
        resolved,
        network,
        rows,
        is_part=given.is_part,
        is_validated=validation is not None,
        is_scaled=isinstance(encoder, TabularEncoder),
    )
    if continues:
        state = resume_training(estimator, plan)
    else:
        state = first_state(plan, parameters.random_state, rows.X.dtype)
    return Training(resolved, model, plan, state, rows, validation)


def _check_same_network(wanted: Architecture, known: Architecture) -> None:
    """Refuse to go on with another network than the one that has been trained."""
    names = vars(known).keys() - {"dropout", "initialization"}  # which change no parameter now
    changed = [name for name in names if vars(wanted)[name] != vars(known)[name]]
    if changed:
        raise ValueError(
            f"Training can only go on with the same network, but {', '.join(sorted(changed))} "
            "changed since the first fit. Set them back, or train anew with warm_start=False."
        )
