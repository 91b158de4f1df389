"""The plan of a training: what the parameters come to, and the state that it starts in."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..nn.losses import make_loss
from ..nn.network import Network
from ..optim.schedules import Constant, CosLog4, Schedule, make_schedule
from ..optim.solvers import make_optimizer
from ..optim.transforms import Optimizer
from ..training.folds import FEWEST_FOLDS
from ..training.rows import Rows
from ..training.state import (
    Purpose,
    TrainingPlan,
    TrainingState,
    first_optimizer_state,
    make_stream,
)
from ..training.threads import resolve_n_jobs
from .checks import check_weights_of_part
from .parameters import FULL_BATCH, ResolvedParameters

ALL_ROWS = sys.maxsize

AUTO_PATIENCE = 10
CYCLE_GROWTH = 1.5
"""A cycle of "coslog4" is a little over twice as long as all those before it."""

AUTO_MAX_FUN = 15_000

POOLED_PATIENCE, POOLED_GROWTH = 6, 0.2
"""The loss of all rows is less noisy than that of a few, so that less patience is needed."""


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
    is_pooled = not (is_validated or is_lbfgs) and network.n_members >= FEWEST_FOLDS
    patience, growth = _choose_patience(parameters, schedule, is_part=is_part, is_pooled=is_pooled)
    return TrainingPlan(
        network=network,
        optimizer=_make_optimizer(parameters, network, l2),
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
    parameters: ResolvedParameters, schedule: Schedule, *, is_part: bool, is_pooled: bool
) -> tuple[float, float]:
    """Return how many epochs to wait for progress, and how many more for each epoch before it.

    Members are pooled if they are validated together, by all rows that they hold out.
    """
    has_end = is_part or schedule.needs_horizon or parameters.solver == "lbfgs"
    if has_end and not parameters.early_stopping:
        return np.inf, 0.0  # nothing is watched
    if not isinstance(parameters.n_iter_no_change, str):
        return parameters.n_iter_no_change, 0.0
    if isinstance(schedule, CosLog4):
        return AUTO_PATIENCE, CYCLE_GROWTH
    if is_pooled and parameters.early_stopping:
        return POOLED_PATIENCE, POOLED_GROWTH
    return AUTO_PATIENCE, 0.0


def _make_optimizer(parameters: ResolvedParameters, network: Network, l2: float) -> Optimizer:
    if parameters.solver == "lbfgs":  # SciPy takes the steps
        _check_for_lbfgs(parameters)
        return Optimizer(())
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


def first_state(plan: TrainingPlan, random_state: Any, dtype: np.dtype) -> TrainingState:
    """Draw the first weights and start everything else at zero."""
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    purposes: tuple[Purpose, ...] = ("initialization", "shuffling", "dropout")
    initialization, shuffling, dropout = (
        [make_stream(seed, purpose, member) for member in range(plan.network.n_members)]
        for purpose in purposes
    )
    params = plan.network.init_params(initialization, dtype)
    return TrainingState(
        params=params,
        optimizer=first_optimizer_state(plan, params),
        seed=seed,
        shuffling=shuffling,
        dropout=dropout,
        rate_factor=np.ones((len(params), 1), dtype),
    )
