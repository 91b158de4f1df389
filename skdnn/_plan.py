"""From the words of the constructor to what a fit does: the network, the plan, the first state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._network import Network
from ._random import RandomStreams
from ._rows import Rows
from ._training import TrainingPlan, TrainingState
from ._validation import check_activation, check_dropout, check_hidden_layer_sizes
from .losses import BinaryCrossEntropy
from .optimizers import make_optimizer
from .schedules import Constant, make_schedule

AUTO_BATCH_SIZE = 200
ADAMW_WEIGHT_DECAY = 0.01


def describe_architecture(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `build_network`: one activation and one dropout rate a layer."""
    sizes = check_hidden_layer_sizes(parameters["hidden_layer_sizes"])
    return {
        "hidden_layer_sizes": sizes,
        "activation": check_activation(parameters["activation"], len(sizes)),
        "dropout": check_dropout(parameters["dropout"], len(sizes)),
        "initialization": parameters["initialization"],
        "n_members": int(parameters["n_members"]),
    }


def make_plan(
    parameters: dict[str, Any], network: Network, rows: Rows, *, is_part: bool
) -> TrainingPlan:
    """Decide all that a fit needs to know before it begins.

    A part of a table, as `partial_fit` gets it, is gone through once and has no end to plan for.
    """
    layout = network.layout
    # A penalty of alpha / 2 |W|^2 beside the *sum* of the losses, as in MLPClassifier and Ridge.
    l2 = float(parameters["alpha"]) / (rows.total_weight or 1.0)
    schedule = make_schedule(parameters["learning_rate"], float(parameters["power_t"]))
    if is_part and schedule.needs_horizon:
        schedule = Constant()
    watches_plateau = not is_part and (parameters["early_stopping"] or not schedule.needs_horizon)
    return TrainingPlan(
        network=network,
        optimizer=make_optimizer(
            parameters["solver"],
            decayed=layout.decayed,
            lr_scales=layout.lr_scales,
            l2=l2,
            weight_decay=_weight_decay(parameters),
            max_grad_norm=parameters["max_grad_norm"],
            momentum=float(parameters["momentum"]),
            nesterov=parameters["nesterovs_momentum"],
            beta_1=float(parameters["beta_1"]),
            beta_2=float(parameters["beta_2"]),
            epsilon=float(parameters["epsilon"]),
        ),
        schedule=schedule,
        loss=BinaryCrossEntropy(),
        batch_size=_batch_size(parameters, len(rows)),
        max_iter=1 if is_part else int(parameters["max_iter"]),
        learning_rate_init=float(parameters["learning_rate_init"]),
        l2=l2,
        shuffle=parameters["shuffle"],
        tol=float(parameters["tol"]),
        n_iter_no_change=parameters["n_iter_no_change"] if watches_plateau else np.inf,
        is_adaptive=parameters["learning_rate"] == "adaptive",
        is_part=is_part,
        verbose=int(parameters["verbose"]),
    )


def first_state(plan: TrainingPlan, seed: int, dtype: np.dtype) -> TrainingState:
    """Draw the first weights and start everything else at zero."""
    streams = RandomStreams.spawn(seed, range(plan.network.n_members))
    params = plan.network.init_params(streams.initialization, dtype)
    return TrainingState(
        params=params,
        optimizer=plan.optimizer.init(params),
        streams=streams,
        rate_factor=np.ones((len(params), 1), dtype),
    )


def _weight_decay(parameters: dict[str, Any]) -> float:
    if parameters["weight_decay"] is None:
        return ADAMW_WEIGHT_DECAY if parameters["solver"] == "adamw" else 0.0
    return float(parameters["weight_decay"])


def _batch_size(parameters: dict[str, Any], n_samples: int) -> int:
    if parameters["solver"] == "gd":
        return n_samples
    if parameters["batch_size"] == "auto":
        return min(AUTO_BATCH_SIZE, n_samples)
    return int(parameters["batch_size"])
