"""From the words of the constructor to what a fit does: the network, the plan, the first state."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Set
from math import log2, sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone

from .._chain import Optimizer, chain
from .._network import Network
from ..activations import ACTIVATIONS
from ..losses import make_loss
from ..optimizers import ADAPTIVE_SOLVERS, make_optimizer
from ..schedules import Constant, CosLog4, Schedule, make_schedule
from ..training.folds import FEWEST_FOLDS
from ..training.random_streams import RandomStreams
from ..training.rows import Rows
from ..training.state import TrainingPlan, TrainingState
from ..training.threads import resolve_n_jobs
from .architecture import InputColumns
from .checks import check_lbfgs

STOPPED_TABLE = 500
"""Rows above which a single network stops early by itself: it learns them by heart otherwise."""

LARGE_TABLE = 10_000
"""The same for solvers that see all rows at once, and take few steps: "gd" and "lbfgs"."""

AUTO_PATIENCE = 10
CYCLE_GROWTH = 1.5
"""A cycle of "coslog4" is a little over twice as long as all those before it."""

POOLED_PATIENCE, POOLED_GROWTH = 6, 0.2
"""All rows together say sooner than a few of them that progress is over."""

MOST_AVERAGED = 50
"""Weights are averaged over about the steps of an epoch, but over no more of them than this."""

MERGED_TABLE = 1_000
"""Rows up to which identical ones are merged even where a batch does not hold them all."""

ADAMW_WEIGHT_DECAY = 0.02
AUTO_MAX_FUN = 15_000

FULL_BATCH = ("gd", "lbfgs")
"""Solvers whose steps take all rows."""

ARCHITECTURE = (
    "numeric_embedding",
    "hidden_layer_sizes",
    "activation",
    "n_members",
    "initialization",
)
"""What a training that goes on must find as it was."""

TRAINING = ("dropout", "batch_size", "max_iter", "ema_decay")
"""What else is chosen for a table."""


def resolve_auto(
    parameters: dict[str, Any], n_samples: int, known: dict[str, Any]
) -> dict[str, Any]:
    """Return the parameters with "auto" replaced.

    MLPClassifier's own parameters always have a `max_fun`. Who sets it, or trains by L-BFGS, has
    that network in mind: a single one, without dropout.
    """
    is_mlp, is_lbfgs = parameters["max_fun"] is not None, parameters["solver"] == "lbfgs"
    is_single = is_mlp or is_lbfgs
    is_linear = np.size(parameters["hidden_layer_sizes"]) == 0
    choices: dict[str, Any] = {
        # One network minimised to the end learns by heart what an embedding lets it tell apart;
        # without hidden layers it is to be logistic regression.
        "numeric_embedding": None if is_lbfgs or is_linear else "auto",
        "hidden_layer_sizes": (64, 64),
        "activation": "relu" if is_mlp else "silu",
        "n_members": 1 if is_single else 8,
        "dropout": 0.0 if is_single else 0.15,
        "initialization": "mlp" if is_mlp else "auto",
        "max_iter": choose_epochs(n_samples),
        "batch_size": choose_batch_size(n_samples),
    }
    choices |= {name: known[name] for name in ARCHITECTURE if name in known}
    resolved = {
        name: choices[name] if name in choices and _is_auto(value) else value
        for name, value in parameters.items()
    }
    if not is_mlp:
        resolved["max_fun"] = AUTO_MAX_FUN
    if parameters["solver"] in FULL_BATCH:
        resolved["batch_size"] = n_samples
    if _is_auto(resolved["ema_decay"]):
        n_steps = min(n_samples // resolved["batch_size"], MOST_AVERAGED)
        resolved["ema_decay"] = None if is_single or n_steps <= 1 else 1.0 - 1.0 / n_steps
    return resolved


def can_be_merged(rows: Rows, parameters: dict[str, Any]) -> bool:
    """Say whether identical rows may become one, as their order does not matter."""
    is_small = len(rows) <= MERGED_TABLE and parameters["shuffle"]
    return is_small or len(rows) <= parameters["batch_size"]


def tell_choices(
    given: dict[str, Any],
    resolved: dict[str, Any],
    plan: TrainingPlan,
    *,
    encoder: Any,
    columns: InputColumns,
    dtype: np.dtype,
) -> dict[str, Any]:
    """Return the values that stand for the parameters that were left open.

    Passed to another estimator they make the same network. What is a rule and not a value has none:
    "auto" for `initialization` and `n_iter_no_change`; nor has `max_fun`, which says more than it
    is.
    """
    told = {name: resolved[name] for name in (*ARCHITECTURE, *TRAINING)} | {
        "encoder": None if encoder is None else clone(encoder),
        "numeric_embedding": columns.embedding,
        "weight_decay": _weight_decay(resolved),
        "early_stopping": plan.stops_early,
        "dtype": dtype.name,
    }

    def was_open(name: str) -> bool:
        return _is_auto(given[name]) or (name == "weight_decay" and given[name] is None)

    return {name: value for name, value in told.items() if was_open(name) and not _is_auto(value)}


def choose_batch_size(n_samples: int) -> int:
    """Return the power of two next to a fortieth of the rows, from 64 to 512.

    Small tables need many steps, and large ones run faster in large batches.
    """
    return int(min(max(2 ** round(log2(max(n_samples, 1) / 40)), 64), 512))


def choose_epochs(n_samples: int) -> int:
    """Return 64 epochs, and fewer above 12,000 rows: as the inverse root of their number, to 16.

    The number of steps still grows with the table, but time no faster than the rows.
    """
    return int(min(max(round(64 * sqrt(12_000 / max(n_samples, 1))), 16), 64))


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def describe_architecture(
    parameters: dict[str, Any], columns: InputColumns | int
) -> dict[str, Any]:
    """Return the arguments of `build_network`: one activation and one dropout rate a layer."""
    sizes = check_hidden_layer_sizes(parameters["hidden_layer_sizes"])
    return {
        "columns": columns,
        "hidden_layer_sizes": sizes,
        "activation": check_activation(parameters["activation"], len(sizes)),
        "dropout": check_dropout(parameters["dropout"], len(sizes)),
        "initialization": parameters["initialization"],
        "normalization": parameters["normalization"],
        "residual": bool(parameters["residual"]),
        "n_members": int(parameters["n_members"]),
    }


def make_plan(
    parameters: dict[str, Any],
    network: Network,
    rows: Rows,
    *,
    is_part: bool,
    is_validated: bool,
    is_scaled: bool = False,
) -> TrainingPlan:
    """Decide all that a fit needs to know before it begins.

    A part of a table, as `partial_fit` gets it, is gone through once and has no end to plan for.
    `is_validated` says that there are rows to validate on already, `is_scaled` that an encoder has
    brought the features to one scale.
    """
    _check_representable(parameters, rows.X.dtype)
    # A penalty of alpha / 2 |W|^2 beside the *sum* of the losses, as in MLPClassifier and Ridge.
    l2 = float(parameters["alpha"]) / (rows.total_weight or 1.0)
    schedule = make_schedule(parameters["learning_rate"], float(parameters["power_t"]))
    if is_part and schedule.needs_horizon:
        schedule = Constant()
    is_lbfgs, takes_all = parameters["solver"] == "lbfgs", parameters["solver"] in FULL_BATCH
    n_members = 1 if is_lbfgs else network.n_members  # that are validated together
    can_validate = is_validated or n_members > 1
    stops_early = not is_part and _stops_early(parameters, len(rows), can_validate=can_validate)
    n_iter_no_change, patience_growth = _choose_patience(
        parameters["n_iter_no_change"],
        schedule,
        is_pooled=stops_early and not is_validated and n_members >= FEWEST_FOLDS,
    )
    watches = stops_early or not (is_part or schedule.needs_horizon or is_lbfgs)
    max_time = parameters["max_time"]
    return TrainingPlan(
        network=network,
        optimizer=_make_optimizer(parameters, network, l2),
        schedule=schedule,
        loss=make_loss(parameters["loss"], focal_gamma=float(parameters["focal_gamma"])),
        # All rows are more than there are now if some are cut into parts.
        batch_size=sys.maxsize if takes_all else int(parameters["batch_size"]),
        max_iter=1 if is_part else int(parameters["max_iter"]),
        max_fun=int(parameters["max_fun"]),
        max_time=np.inf if max_time is None else float(max_time),
        learning_rate_init=float(parameters["learning_rate_init"]),
        l2=l2,
        shuffle=parameters["shuffle"],
        tol=float(parameters["tol"]),
        stops_early=stops_early,
        n_iter_no_change=n_iter_no_change if watches else np.inf,
        patience_growth=patience_growth,
        ema_decay=0.0 if is_lbfgs else float(parameters["ema_decay"] or 0.0),
        is_adaptive=parameters["learning_rate"] == "adaptive" and not is_lbfgs,
        is_part=is_part,
        is_scaled=is_scaled,
        n_threads=resolve_n_jobs(parameters["n_jobs"]),
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


def _stops_early(parameters: dict[str, Any], n_samples: int, *, can_validate: bool) -> bool:
    """Say whether epochs are judged by rows that were not trained on.

    "auto" does so where that takes no rows away, or where there are enough of them.
    """
    if not _is_auto(parameters["early_stopping"]):
        return bool(parameters["early_stopping"])
    n_enough = LARGE_TABLE if parameters["solver"] in FULL_BATCH else STOPPED_TABLE
    return can_validate or n_samples > n_enough


def _choose_patience(
    n_iter_no_change: Any, schedule: Schedule, *, is_pooled: bool
) -> tuple[float, float]:
    """Return how many epochs to wait for progress, and how many more for each epoch before it.

    `is_pooled` says that members are judged together, by all rows of the table.
    """
    if not _is_auto(n_iter_no_change):
        return float(n_iter_no_change), 0.0
    if isinstance(schedule, CosLog4):
        return AUTO_PATIENCE, CYCLE_GROWTH
    return (POOLED_PATIENCE, POOLED_GROWTH) if is_pooled else (AUTO_PATIENCE, 0.0)


def _check_representable(parameters: dict[str, Any], dtype: np.dtype) -> None:
    """Refuse numbers that are infinite, and divisors that are zero, in the precision of training.

    Raises
    ------
    ValueError
        If there is such a number among those that the solver uses.
    """
    limits, solver = np.finfo(dtype), parameters["solver"]
    largest, smallest = float(limits.max), float(limits.smallest_subnormal)
    names = ["alpha", "weight_decay"]
    names += ["focal_gamma"] if parameters["loss"] == "focal" else []
    names += [] if solver == "lbfgs" else ["learning_rate_init", "max_grad_norm"]
    wrong = [(name, "infinite", "Lower") for name in names if (parameters[name] or 0) > largest]
    if solver in ADAPTIVE_SOLVERS and parameters["epsilon"] < smallest:
        wrong.append(("epsilon", "zero", "Raise"))
    for name, what, advice in wrong:
        raise ValueError(
            f"{name}={parameters[name]!r} is {what} in {dtype}, the precision of training. "
            f"{advice} it, or pass dtype='float64'."
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


def check_hidden_layer_sizes(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the widths as a tuple; an integer is one layer, an empty sequence none."""
    sizes = _list_values("hidden_layer_sizes", hidden_layer_sizes)
    sizes = sizes if isinstance(sizes, tuple) else (sizes,)
    if not all(_is_number(size, Integral) and size > 0 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must be positive integers, one for each hidden layer, got "
            f"{hidden_layer_sizes!r}."
        )
    return tuple(int(size) for size in sizes)


def check_activation(activation: Any, n_layers: int) -> tuple[Any, ...]:
    """Return one activation function, a name or an object, for each hidden layer."""
    functions = _spread("activation", activation, n_layers)
    for function in functions:
        is_named = isinstance(function, str) and function in ACTIVATIONS
        if not is_named and not _is_function(function):
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)} or an object with the methods "
                f"value and derivative, got {function!r}."
            )
    return functions


def check_dropout(dropout: Any, n_layers: int) -> tuple[float, ...]:
    """Return one dropout rate for each hidden layer."""
    rates = _spread("dropout", dropout, n_layers)
    if not all(_is_number(rate, Real) and 0.0 <= float(rate) < 1.0 for rate in rates):
        raise ValueError(
            "dropout must be a probability in [0, 1), or one for each hidden layer, got "
            f"{dropout!r}."
        )
    return tuple(float(rate) for rate in rates)


def _spread(name: str, value: Any, n_layers: int) -> tuple[Any, ...]:
    """Return one value for each hidden layer."""
    values = _list_values(name, value)
    if not isinstance(values, tuple):
        return (values,) * n_layers
    if len(values) != n_layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {n_layers} hidden layers, got "
            f"{len(values)}: {value!r}."
        )
    return values


def _list_values(name: str, value: Any) -> Any:
    """Return a tuple of values, or a single value as it is; an array of no dimensions is single."""
    if isinstance(value, Set | Mapping):
        raise ValueError(
            f"{name} must be one value, or a sequence with one for each hidden layer, got a "
            f"{type(value).__name__}, {value!r}, which does not say which is whose. Pass a list."
        )
    if isinstance(value, np.ndarray):
        value = value.tolist()
    is_one = isinstance(value, str) or _is_function(value) or not isinstance(value, Iterable)
    if is_one:
        return value
    return tuple(v.item() if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in value)


def _is_function(value: Any) -> bool:
    return hasattr(value, "value") and hasattr(value, "derivative")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)
