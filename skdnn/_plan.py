"""From the words of the constructor to what a fit does: the network, the plan, the first state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._network import Network
from ._random import RandomStreams
from ._rows import Rows
from ._state import TrainingPlan, TrainingState
from ._validation import (
    check_activation,
    check_dropout,
    check_hidden_layer_sizes,
    check_lbfgs,
)
from .losses import make_loss
from .optimizers import Optimizer, chain, make_optimizer
from .schedules import Constant, make_schedule

LARGE_TABLE = 10_000
"""Rows above which early stopping is on by itself, as in HistGradientBoostingClassifier."""

AUTO_BATCH_SIZE = 200
AUTO_MEMBERS = 4
AUTO_DROPOUT = 0.1
AUTO_MAX_FUN = 15_000
ADAMW_WEIGHT_DECAY = 0.01


def resolve_auto(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with "auto" replaced, where it does not depend on the rows.

    MLPClassifier's own parameters always have a `max_fun`. Who sets it, or trains by L-BFGS, has
    that network in mind: a single one, without dropout.
    """
    is_mlp, is_lbfgs = parameters["max_fun"] is not None, parameters["solver"] == "lbfgs"
    is_single = is_mlp or is_lbfgs
    choices = {
        "n_members": 1 if is_single else AUTO_MEMBERS,
        "dropout": 0.0 if is_single else AUTO_DROPOUT,
        "initialization": "mlp" if is_mlp else "auto",
        "max_fun": AUTO_MAX_FUN,
    }
    return {
        name: choices[name] if name in choices and _is_left_open(value) else value
        for name, value in parameters.items()
    }


def _is_left_open(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "auto")


def describe_architecture(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `build_network`: one activation and one dropout rate a layer."""
    sizes = check_hidden_layer_sizes(parameters["hidden_layer_sizes"])
    return {
        "hidden_layer_sizes": sizes,
        "activation": check_activation(parameters["activation"], len(sizes)),
        "dropout": check_dropout(parameters["dropout"], len(sizes)),
        "initialization": parameters["initialization"],
        "normalization": parameters["normalization"],
        "residual": bool(parameters["residual"]),
        "n_members": int(parameters["n_members"]),
    }


def make_plan(
    parameters: dict[str, Any], network: Network, rows: Rows, *, is_part: bool, is_validated: bool
) -> TrainingPlan:
    """Decide all that a fit needs to know before it begins.

    A part of a table, as `partial_fit` gets it, is gone through once and has no end to plan for.
    `is_validated` says that there are rows to validate on already.
    """
    # A penalty of alpha / 2 |W|^2 beside the *sum* of the losses, as in MLPClassifier and Ridge.
    l2 = float(parameters["alpha"]) / (rows.total_weight or 1.0)
    schedule = make_schedule(parameters["learning_rate"], float(parameters["power_t"]))
    if is_part and schedule.needs_horizon:
        schedule = Constant()
    is_lbfgs = parameters["solver"] == "lbfgs"
    wishes = parameters["early_stopping"]
    is_wanted = is_validated or len(rows) > LARGE_TABLE if wishes == "auto" else wishes
    stops_early = bool(is_wanted) and not is_part
    watches = stops_early or not (is_part or schedule.needs_horizon or is_lbfgs)
    max_time = parameters["max_time"]
    return TrainingPlan(
        network=network,
        optimizer=_make_optimizer(parameters, network, l2),
        schedule=schedule,
        loss=make_loss(parameters["loss"], focal_gamma=float(parameters["focal_gamma"])),
        batch_size=_batch_size(parameters, len(rows)),
        max_iter=1 if is_part else int(parameters["max_iter"]),
        max_fun=int(parameters["max_fun"]),
        max_time=np.inf if max_time is None else float(max_time),
        learning_rate_init=float(parameters["learning_rate_init"]),
        l2=l2,
        shuffle=parameters["shuffle"],
        tol=float(parameters["tol"]),
        stops_early=stops_early,
        n_iter_no_change=parameters["n_iter_no_change"] if watches else np.inf,
        ema_decay=0.0 if is_lbfgs else float(parameters["ema_decay"] or 0.0),
        is_adaptive=parameters["learning_rate"] == "adaptive" and not is_lbfgs,
        is_part=is_part,
        verbose=int(parameters["verbose"]),
    )


def first_state(plan: TrainingPlan, seed: int, dtype: np.dtype) -> TrainingState:
    """Draw the first weights and start everything else at zero."""
    streams = RandomStreams.spawn(seed, range(plan.network.n_members))
    params = plan.network.init_params(streams.initialization, dtype)
    return TrainingState(
        params=params,
        optimizer=plan.optimizer.init(params[:, plan.network.layout.trainable]),
        streams=streams,
        rate_factor=np.ones((len(params), 1), dtype),
    )


def _make_optimizer(parameters: dict[str, Any], network: Network, l2: float) -> Optimizer:
    if parameters["solver"] == "lbfgs":  # SciPy takes the steps
        check_lbfgs(parameters)
        return chain()
    return make_optimizer(
        parameters["solver"],
        decayed=network.layout.decayed,
        lr_scales=network.layout.lr_scales,
        l2=l2,
        weight_decay=_weight_decay(parameters),
        max_grad_norm=parameters["max_grad_norm"],
        momentum=float(parameters["momentum"]),
        nesterov=parameters["nesterovs_momentum"],
        beta_1=float(parameters["beta_1"]),
        beta_2=float(parameters["beta_2"]),
        epsilon=float(parameters["epsilon"]),
    )


def _weight_decay(parameters: dict[str, Any]) -> float:
    if parameters["weight_decay"] is None:
        return ADAMW_WEIGHT_DECAY if parameters["solver"] == "adamw" else 0.0
    return float(parameters["weight_decay"])


def _batch_size(parameters: dict[str, Any], n_samples: int) -> int:
    if parameters["solver"] in ("gd", "lbfgs"):
        return n_samples
    if parameters["batch_size"] == "auto":
        return min(AUTO_BATCH_SIZE, n_samples)
    return int(parameters["batch_size"])
