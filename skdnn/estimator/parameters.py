"""The constructor's parameters: what each may be, one typed object of all, and what "auto" is.

`Parameters` are as the user gave them. `resolve` returns a copy of them in which everything that
was left open has a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import log2, sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names

from ..activations import ACTIVATIONS
from ..initializers import INITIALIZER_NAMES
from ..losses import LOSSES
from ..optimizers import ADAPTIVE_SOLVERS, SOLVERS
from ..schedules import SCHEDULES
from ..utils import HasMethods, Interval, Options, StrOptions

STOPPED_TABLE = 500
"""Rows above which a single network stops early by itself: it learns them by heart otherwise."""

LARGE_TABLE = 10_000
"""The same for solvers that see all rows at once, and take few steps: "gd" and "lbfgs"."""

MOST_AVERAGED = 50
"""Weights are averaged over about the steps of an epoch, but over no more of them than this."""

ADAMW_WEIGHT_DECAY = 0.02
AUTO_MAX_FUN = 15_000

FULL_BATCH = ("gd", "lbfgs")
"""Solvers whose steps take all rows."""

AUTO = StrOptions({"auto"})
COUNT = Interval(Integral, 1, None, closed="left")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
SHARE = Interval(Real, 0, 1, closed="left")
INNER_SHARE = Interval(Real, 0, 1, closed="neither")

PARAMETER_CONSTRAINTS: dict[str, list] = {
    "hidden_layer_sizes": [AUTO, "array-like", COUNT],
    "activation": [
        StrOptions({"auto", *ACTIVATIONS}),
        "array-like",
        HasMethods(["value", "derivative"]),
    ],
    "encoder": [AUTO, HasMethods(["fit", "transform"]), None],
    "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    "numeric_embedding": [StrOptions({"auto", "mixed", "periodic", "piecewise"}), None],
    "initialization": [StrOptions(set(INITIALIZER_NAMES))],
    "normalization": [StrOptions({"batch", "layer"}), None],
    "residual": ["boolean"],
    "n_members": [AUTO, COUNT],
    "dropout": [AUTO, SHARE, "array-like"],
    "alpha": [NOT_NEGATIVE],
    "weight_decay": [NOT_NEGATIVE, None],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "loss": [StrOptions(set(LOSSES))],
    "focal_gamma": [NOT_NEGATIVE],
    "label_smoothing": [SHARE],
    "solver": [StrOptions({*SOLVERS, "lbfgs"})],
    "batch_size": [AUTO, COUNT],
    "learning_rate": [StrOptions(set(SCHEDULES))],
    "learning_rate_init": [POSITIVE],
    "power_t": [NOT_NEGATIVE],
    "momentum": [SHARE],
    "nesterovs_momentum": ["boolean"],
    "beta_1": [SHARE],
    "beta_2": [SHARE],
    "epsilon": [POSITIVE],
    "max_grad_norm": [POSITIVE, None],
    "ema_decay": [INNER_SHARE, AUTO, None],
    "max_iter": [AUTO, COUNT],
    "max_fun": [COUNT, None],
    "max_time": [POSITIVE, None],
    "shuffle": ["boolean"],
    "tol": [NOT_NEGATIVE],
    "n_iter_no_change": [AUTO, COUNT, Options(Real, {np.inf})],
    "early_stopping": [AUTO, "boolean"],
    "validation_fraction": [INNER_SHARE],
    "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
    "calibration": [StrOptions({"temperature"}), None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "n_jobs": [COUNT, Interval(Integral, None, -1, closed="right"), None],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

CONVERSIONS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Parameters:
    """All parameters of the constructor; its docstring says what they mean.

    Numbers are Python's own, of the type that the field says.
    """

    hidden_layer_sizes: Any
    activation: Any
    encoder: Any
    categorical_features: Any
    numeric_embedding: str | None
    initialization: str
    normalization: str | None
    residual: bool
    n_members: int | str
    dropout: Any
    alpha: float
    weight_decay: float | None
    class_weight: Any
    loss: Any
    focal_gamma: float
    label_smoothing: float
    solver: Any
    batch_size: int | str
    learning_rate: Any
    learning_rate_init: float
    power_t: float
    momentum: float
    nesterovs_momentum: bool
    beta_1: float
    beta_2: float
    epsilon: float
    max_grad_norm: float | None
    ema_decay: float | str | None
    max_iter: int | str
    max_fun: int | None
    max_time: float | None
    shuffle: bool
    tol: float
    n_iter_no_change: float | str
    early_stopping: bool | str
    validation_fraction: float
    scoring: Any
    calibration: str | None
    dtype: str
    n_jobs: int | None
    warm_start: bool
    random_state: Any
    verbose: int

    @classmethod
    def of(cls, estimator: Any) -> Parameters:
        """Read them; a subclass may have an `__init__` that takes only some of them."""
        values = {}
        for field in fields(Parameters):
            value = getattr(estimator, field.name)
            convert = CONVERSIONS.get(str(field.type).partition(" ")[0])
            if convert is not None and value is not None and not isinstance(value, str):
                value = convert(value)
            values[field.name] = value
        return cls(**values)


@dataclass(frozen=True)
class ResolvedParameters(Parameters):
    """The same, with a value for what was left open.

    Two rules are no values and stay "auto": `initialization`, which goes by layer, and
    `n_iter_no_change`, which goes by the schedule.
    """

    n_members: int
    weight_decay: float
    batch_size: int
    ema_decay: float | None
    max_iter: int
    max_fun: int
    early_stopping: bool


SAME_NETWORK = (
    "numeric_embedding",
    "hidden_layer_sizes",
    "activation",
    "n_members",
    "initialization",
)
"""What a training that goes on must find as it was."""

OPEN = (
    *SAME_NETWORK,
    "encoder",
    "dropout",
    "weight_decay",
    "batch_size",
    "ema_decay",
    "max_iter",
    "early_stopping",
    "dtype",
)
"""What may be left open and has a value in the end; `max_fun` says more than its value."""


def resolve(
    given: Parameters,
    known: dict[str, Any],
    *,
    n_samples: int,
    n_embedded: int = 0,
    encoder: Any = None,
    dtype: np.typing.DTypeLike = np.float64,
    is_part: bool = False,
    is_validated: bool = False,
) -> ResolvedParameters:
    """Return the parameters with a value for each that was left open.

    MLPClassifier's own parameters always have a `max_fun`. Who sets it, or trains by L-BFGS, has
    that network in mind: a single one, without dropout.

    Parameters
    ----------
    given : Parameters
    known : dict
        The `resolved_params_` of a training that goes on.
    n_samples : int
        Rows to train on.
    n_embedded : int
        Columns of numbers that may be embedded.
    encoder : object
        The fitted encoder.
    dtype : dtype
        Of training.
    is_part : bool
        Whether the rows are a part of a table, of which none are held out.
    is_validated : bool
        Whether validation rows are given.
    """
    is_mlp, is_lbfgs = given.max_fun is not None, given.solver == "lbfgs"
    is_single, takes_all = is_mlp or is_lbfgs, given.solver in FULL_BATCH
    known = {name: known[name] for name in SAME_NETWORK if name in known}
    n_members: Any = given.n_members
    if _is_auto(n_members):
        n_members = known.get("n_members", 1 if is_single else 8)
    batch_size = choose_batch_size(given, n_samples)
    n_averaged = min(n_samples // batch_size, MOST_AVERAGED)  # steps
    # One network minimised to the end learns by heart what an embedding lets it tell apart; without
    # hidden layers it is to be logistic regression.
    is_linear = np.size(given.hidden_layer_sizes) == 0
    is_embedded = n_embedded > 0 and not (is_lbfgs or is_linear)
    has_enough = n_samples > (LARGE_TABLE if takes_all else STOPPED_TABLE)
    choices: dict[str, Any] = {
        "numeric_embedding": ("mixed" if n_members > 1 else "periodic") if is_embedded else None,
        "hidden_layer_sizes": (64, 64),
        "activation": "relu" if is_mlp else "silu",
        "n_members": n_members,
        "initialization": "mlp" if is_mlp else "auto",
        "encoder": encoder,
        "dropout": 0.0 if is_single else 0.15,
        "batch_size": batch_size,
        "ema_decay": None if is_single or n_averaged <= 1 else 1.0 - 1.0 / n_averaged,
        "max_iter": choose_epochs(n_samples),
        "early_stopping": is_validated or has_enough or (n_members > 1 and not is_lbfgs),
        "dtype": np.dtype(dtype).name,
    } | known
    values = vars(given) | {n: v for n, v in choices.items() if _is_auto(getattr(given, n))}
    values["early_stopping"] = bool(values["early_stopping"]) and not is_part
    values["batch_size"] = batch_size
    values["max_fun"] = given.max_fun or AUTO_MAX_FUN
    if given.weight_decay is None:
        values["weight_decay"] = ADAMW_WEIGHT_DECAY if given.solver == "adamw" else 0.0
    return ResolvedParameters(**values)


def name_choices(given: Parameters, resolved: ResolvedParameters) -> dict[str, Any]:
    """Return the values that stand for the parameters that were left open.

    Passed to another estimator they make the same network.
    """
    chosen = {name: getattr(resolved, name) for name in OPEN if _is_auto(getattr(given, name))}
    if given.weight_decay is None:
        chosen["weight_decay"] = resolved.weight_decay
    return {name: value for name, value in chosen.items() if not _is_auto(value)}


def choose_batch_size(given: Parameters, n_samples: int) -> int:
    """Return the rows in a step: all of them for solvers that take all.

    "auto" is the power of two next to a fortieth of the rows, from 64 to 512: small tables need
    many steps, and large ones run faster in large batches.
    """
    if given.solver in FULL_BATCH:
        return n_samples
    if not _is_auto(given.batch_size):
        return int(given.batch_size)
    return int(min(max(2 ** round(log2(max(n_samples, 1) / 40)), 64), 512))


def choose_epochs(n_samples: int) -> int:
    """Return 64 epochs, and fewer above 12,000 rows: as the inverse root of their number, to 16.

    The number of steps still grows with the table, but time no faster than the rows.
    """
    return int(min(max(round(64 * sqrt(12_000 / max(n_samples, 1))), 16), 64))


def check_for_lbfgs(given: Parameters) -> None:
    """Refuse what has no meaning where SciPy minimises the cost itself."""
    if not _is_auto(given.dropout) and np.any(given.dropout):
        raise ValueError(
            f"dropout={given.dropout!r} makes the cost random, which solver='lbfgs' cannot "
            "minimise. Set dropout=0, or take another solver."
        )
    for name in ("weight_decay", "max_grad_norm", "ema_decay"):
        value = getattr(given, name)
        if value and not _is_auto(value):
            raise ValueError(
                f"{name}={value!r} acts on the steps of an optimizer, and has no effect "
                f"on solver='lbfgs'. Leave it at None, or take another solver."
            )


def check_representable(parameters: ResolvedParameters, dtype: np.dtype) -> None:
    """Refuse numbers that are infinite, and divisors that are zero, in the precision of training.

    Raises
    ------
    ValueError
        If there is such a number among those that the solver uses.
    """
    limits, solver = np.finfo(dtype), parameters.solver
    largest, smallest = float(limits.max), float(limits.smallest_subnormal)
    names = ["alpha", "weight_decay"]
    names += ["focal_gamma"] if parameters.loss == "focal" else []
    names += [] if solver == "lbfgs" else ["learning_rate_init", "max_grad_norm"]
    values = {name: getattr(parameters, name) for name in (*names, "epsilon")}
    wrong = [(name, "infinite", "Lower") for name in names if (values[name] or 0) > largest]
    if solver in ADAPTIVE_SOLVERS and parameters.epsilon < smallest:
        wrong.append(("epsilon", "zero", "Raise"))
    for name, what, advice in wrong:
        raise ValueError(
            f"{name}={values[name]!r} is {what} in {dtype}, the precision of training. "
            f"{advice} it, or pass dtype='float64'."
        )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"
