"""The constructor's parameters: their types and constraints, and the values that "auto" takes.

`Parameters` are as the user gave them. `resolve` returns a copy of them in which everything that
was left open has a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import get_scorer_names

from ..nn import Layer
from ..nn.activations import ACTIVATIONS
from ..nn.initializers import INITIALIZER_NAMES
from ..nn.losses import LOSSES
from ..optim import Transform
from ..optim.schedules import SCHEDULES
from ..optim.solvers import SOLVERS
from ..preprocessing import TabularEncoder
from ..training.rows import Rows
from ..typing import ActivationLike, LossLike
from ..utils import HasMethods, Interval, Options, StrOptions

STOPPED_TABLE = 500
"""Rows above which a single network stops early with "auto": it would overfit otherwise."""

LARGE_TABLE = 10_000
"""The same for solvers that see all rows at once, and take few steps: "gd" and "lbfgs"."""

SHORT_TABLE = 12_000
"""Rows up to which training takes 64 epochs; above, as the inverse root of their number, to 16: the
number of steps still grows with the table, but time no faster than the rows."""

MOST_AVERAGED = 50
"""Weights are averaged over about the steps of an epoch, but over no more of them than this."""

FEW_ROWS = 300
"""Rows up to which there are twice as many members, unless there are more columns: so few rows cost
little time, and members that learn from them differ more."""

SMALL_TABLE, TINY_TABLE = 2_000, 15
"""Rows up to which ensembles are calibrated, as more leave a temperature little to change; and
rows that are too few, as each member trains on part of each of them."""

MOST_EMBEDDED = 1_000
"""Columns of numbers up to which they are embedded: each takes 300 weights of a network."""

ADAMW_WEIGHT_DECAY = 0.02

FULL_BATCH = ("gd", "lbfgs")
"""Solvers whose steps take all rows."""

COUNT = Interval(Integral, 1, None, closed="left")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
SHARE = Interval(Real, 0, 1, closed="left")
SEED = Interval(Integral, 0, 2**32 - 1, closed="both")
INNER_SHARE = Interval(Real, 0, 1, closed="neither")
SEQUENCES = (list, tuple, range)


class ObjectWithMethods(HasMethods):
    """Objects that have these methods; their class is not meant."""

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, type) and super().is_satisfied_by(val)


ARRAY = ObjectWithMethods(["__array__"])
OWN_LAYER = ObjectWithMethods(["forward", "backward"])
OWN_ACTIVATION = ObjectWithMethods(["value", "derivative"])
OWN_LOSS = ObjectWithMethods(["loss", "derivative"])
OWN_SOLVER = ObjectWithMethods(["init", "prepare", "update"])


Auto: TypeAlias = Literal["auto"]
HiddenLayerSizes: TypeAlias = int | Layer | Sequence[int | Layer] | NDArray[np.integer] | Auto
Activations: TypeAlias = str | ActivationLike | Sequence[str | ActivationLike]
Rates: TypeAlias = float | Sequence[float] | NDArray[np.floating] | Auto
Schedules: TypeAlias = str | Callable[[int, int], float]


@dataclass(frozen=True)
class Parameters:
    """All parameters of the constructor; its docstring says what they mean.

    scikit-learn checks what stands beside the type, and takes the words, booleans and None of the
    type itself. Single numbers are Python's own, of that type.
    """

    hidden_layer_sizes: Annotated[HiddenLayerSizes, *SEQUENCES, ARRAY, COUNT, OWN_LAYER]
    activation: Annotated[
        Activations, StrOptions({"auto", *ACTIVATIONS}), *SEQUENCES, ARRAY, OWN_ACTIVATION
    ]
    encoder: Annotated[BaseEstimator | Auto | None, ObjectWithMethods(["fit", "transform"])]
    categorical_features: Annotated[ArrayLike | Literal["from_dtype"] | None, "array-like"]
    target_encoding: Auto | None
    numeric_embedding: Literal["auto", "mixed", "periodic", "piecewise"] | None
    initialization: Annotated[str, StrOptions(set(INITIALIZER_NAMES))]
    normalization: Literal["batch", "layer"] | None
    residual: bool
    n_members: Annotated[int | Auto, COUNT]
    dropout: Annotated[Rates, *SEQUENCES, ARRAY, SHARE]
    alpha: Annotated[float, NOT_NEGATIVE]
    weight_decay: Annotated[float | None, NOT_NEGATIVE]
    class_weight: Annotated[Mapping[Any, float] | Literal["balanced"] | None, dict]
    loss: Annotated[str | LossLike, StrOptions(set(LOSSES)), OWN_LOSS]
    focal_gamma: Annotated[float, NOT_NEGATIVE]
    label_smoothing: Annotated[float, SHARE]
    solver: Annotated[str | Transform, StrOptions({*SOLVERS, "lbfgs"}), OWN_SOLVER]
    batch_size: Annotated[int | Auto, COUNT]
    learning_rate: Annotated[Schedules, StrOptions(set(SCHEDULES)), callable]
    learning_rate_init: Annotated[float, POSITIVE]
    power_t: Annotated[float, NOT_NEGATIVE]
    momentum: Annotated[float, SHARE]
    nesterovs_momentum: bool
    beta_1: Annotated[float, SHARE]
    beta_2: Annotated[float, SHARE]
    epsilon: Annotated[float, POSITIVE]
    max_grad_norm: Annotated[float | None, POSITIVE]
    ema_decay: Annotated[float | Auto | None, INNER_SHARE]
    max_iter: Annotated[int | Auto, COUNT]
    max_fun: Annotated[int | None, COUNT]
    max_time: Annotated[float | None, POSITIVE]
    shuffle: bool
    tol: Annotated[float, NOT_NEGATIVE]
    n_iter_no_change: Annotated[float | Auto, COUNT, Options(Real, {np.inf})]
    early_stopping: bool | Auto
    validation_fraction: Annotated[float, INNER_SHARE]
    scoring: Annotated[
        str | Callable[..., float] | None, StrOptions({"loss", *get_scorer_names()}), callable
    ]
    calibration: Literal["auto", "temperature"] | None
    dtype: Literal["auto", "float32", "float64"]
    n_jobs: Annotated[int | None, COUNT, Interval(Integral, None, -1, closed="right")]
    warm_start: bool
    random_state: Annotated[int | RandomState | None, SEED, RandomState]
    verbose: Annotated[int, "verbose"]

    @classmethod
    def of(cls, estimator: Any) -> Parameters:
        """Read them; a subclass may have an `__init__` that takes only some of them."""
        values = {name: getattr(estimator, name) for name in PARAMETER_CONSTRAINTS}
        for name, convert in CONVERSIONS.items():
            if values[name] is not None and not isinstance(values[name], str):
                values[name] = convert(values[name])
        return cls(**values)


def read_hint(hint: Any) -> tuple[list[Any], Any]:
    """Return what scikit-learn checks, and the type of a single number, None for other parameters.

    A number may also be a word or None.
    """
    kind, *beside = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    types = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = [kind for kind in types if get_origin(kind) is Literal]
    plain = set(types) - {*words, NoneType}
    constraints = [*beside, *(StrOptions(set(get_args(kind))) for kind in words)]
    constraints += ["boolean"] if bool in types else []
    constraints += [None] if NoneType in types else []
    return constraints, next((kind for kind in (bool, int, float) if plain == {kind}), None)


HINTS = get_type_hints(Parameters, include_extras=True)
PARAMETER_CONSTRAINTS = {name: read_hint(hint)[0] for name, hint in HINTS.items()}
CONVERSIONS = {name: kind for name, hint in HINTS.items() if (kind := read_hint(hint)[1])}


@dataclass(frozen=True)
class ResolvedParameters(Parameters):
    """The same, with a value for what was left open.

    Three rules are no values and stay "auto": `initialization`, which goes by layer,
    `target_encoding`, which goes by column, and `n_iter_no_change`, which goes by the schedule.
    `max_fun` stays open too: that it is set says more than its value.
    """

    n_members: int
    weight_decay: float
    batch_size: int
    ema_decay: float | None
    max_iter: int
    early_stopping: bool
    n_embedded: int  # of the first columns: those that may be embedded


SAME_NETWORK = ("numeric_embedding", "hidden_layer_sizes", "activation", "n_members")
"""What a training that goes on must find as it was."""


def resolve(
    given: Parameters,
    known: dict[str, Any],
    rows: Rows,
    encoder: Any = None,
    *,
    is_part: bool = False,
    is_validated: bool = False,
) -> tuple[ResolvedParameters, dict[str, Any]]:
    """Return the parameters with a value for each that was left open, and these values by name.

    Parameters of an MLPClassifier always have a `max_fun`. Where it is set, or the solver is
    L-BFGS, the defaults are that network's: a single one, without dropout.

    Parameters
    ----------
    given : Parameters
    known : dict
        The `resolved_params_` of a training that goes on.
    rows : Rows
        To train on.
    encoder : object
        The one of the rows, of which a clone that is not fitted stands for "auto".
    is_part : bool
        Whether the rows are a part of a table, of which none are held out.
    is_validated : bool
        Whether validation rows are given.
    """
    is_mlp, n_samples = given.max_fun is not None, len(rows)
    is_single = is_mlp or given.solver == "lbfgs"
    is_wide = rows.X.shape[1] > n_samples and not (is_mlp or is_part)  # more rows follow
    auto = {n for n, value in vars(given).items() if isinstance(value, str) and value == "auto"}
    default = 1 if is_single else 16 if n_samples <= FEW_ROWS and not (is_wide or is_part) else 8
    n_members: Any = known.get("n_members", default) if "n_members" in auto else given.n_members
    embedding, n_embedded = choose_embedding(given, encoder, rows.X, n_members)
    batch_size = choose_batch_size(given, n_samples)
    n_averaged = min(n_samples // batch_size, MOST_AVERAGED)  # steps
    stops_early = not is_part and choose_early_stopping(given, n_members, n_samples, is_validated)
    is_uncertain = TINY_TABLE < n_samples <= SMALL_TABLE and n_members > 1 and not is_single
    defaults: dict[str, Any] = {
        "hidden_layer_sizes": (32, 32) if is_wide else (64, 64),
        "activation": "relu" if is_mlp else "silu",
        "encoder": clone(encoder, safe=False) if "encoder" in auto else None,
        "numeric_embedding": embedding,
        "initialization": "mlp" if is_mlp else "auto",
        "n_members": n_members,
        "dropout": 0.0 if is_single else 0.15,
        "batch_size": batch_size,
        "ema_decay": None if is_single or n_averaged < 2 else 1.0 - 1.0 / n_averaged,
        "max_iter": int(np.clip(round(64 * sqrt(SHORT_TABLE / max(n_samples, 1))), 16, 64)),
        "early_stopping": stops_early,
        "calibration": "temperature" if stops_early and is_uncertain else None,
        "dtype": rows.X.dtype.name,
    } | {name: known[name] for name in SAME_NETWORK if name in known}
    chosen = {n: value for n, value in defaults.items() if n in auto and value != "auto"}
    if given.weight_decay is None:
        chosen["weight_decay"] = ADAMW_WEIGHT_DECAY if given.solver == "adamw" else 0.0
    values = vars(given) | chosen | {"early_stopping": stops_early, "n_embedded": n_embedded}
    return ResolvedParameters(**values), chosen


def choose_embedding(
    given: Parameters, encoder: Any, X: Any, n_members: int
) -> tuple[str | None, int]:
    """Return what "auto" makes of numbers, and how many of the first columns may be embedded.

    "auto" embeds those that a TabularEncoder has put on one scale, and no others. A network
    minimised by L-BFGS overfits an embedding; without hidden layers the model is to be logistic
    regression. Embeddings of many columns would make networks of millions of weights.
    """
    n_embedded = getattr(encoder, "n_continuous_", 0)
    is_asked_for = given.numeric_embedding not in ("auto", None)
    if is_asked_for and not isinstance(encoder, TabularEncoder):
        if issparse(X):
            raise ValueError(
                f"numeric_embedding={given.numeric_embedding!r} needs a dense table, since what it "
                "makes of 0 is not 0. Leave it at 'auto', or make X dense."
            )
        n_embedded += getattr(encoder, "n_unknown_", X.shape[1])
    sizes: Any = given.hidden_layer_sizes
    if not 0 < n_embedded <= MOST_EMBEDDED or given.solver == "lbfgs" or np.size(sizes) == 0:
        return None, n_embedded
    return "mixed" if n_members > 1 else "periodic", n_embedded


def choose_early_stopping(
    given: Parameters, n_members: int, n_samples: int, is_validated: bool
) -> bool:
    """Say whether training stops early: where rows are given, or enough can be held out."""
    if not isinstance(given.early_stopping, str):
        return given.early_stopping
    if is_validated or (n_members > 1 and given.solver != "lbfgs"):
        return True
    return n_samples > (LARGE_TABLE if given.solver in FULL_BATCH else STOPPED_TABLE)


def choose_batch_size(given: Parameters, n_samples: int) -> int:
    """Return the rows in a step: all of them for solvers that take all.

    "auto" is the power of two next to a fortieth of the rows, from 64 to 512: small tables need
    many steps, and large ones run faster in large batches.
    """
    if given.solver in FULL_BATCH:
        return n_samples
    if not isinstance(given.batch_size, str):
        return given.batch_size
    return int(min(max(2 ** round(log2(max(n_samples, 1) / 40)), 64), 512))
