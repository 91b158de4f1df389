"""One table for each kind of part. A part with a row here has all the property tests of its kind.

Each table is guarded by a test that it names everything there is. Below the tables stand the two
short ways in which several test files run a part: `run_layer` and `pose_training`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from skdnn import DeepBinaryClassifier
from skdnn import activations as activations_module
from skdnn._network import Network
from skdnn._random import RandomWords
from skdnn.activations import ACTIVATIONS, CustomActivation
from skdnn.estimator.architecture import Architecture, InputColumns, build_network
from skdnn.estimator.fitting import make_plan
from skdnn.estimator.parameters import Parameters, resolve
from skdnn.layers import (
    Activation,
    BatchNorm,
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Dense,
    Dropout,
    FeatureScaling,
    Layer,
    LayerNorm,
    NumericEmbedding,
    Residual,
    Slot,
)
from skdnn.losses import BinaryCrossEntropy, FocalLoss
from skdnn.training.random_streams import RandomStreams
from skdnn.training.rows import Rows
from skdnn.training.state import TrainingPlan, TrainingState


@dataclass(frozen=True)
class ActivationRow:
    """What is known of an activation function from elsewhere.

    `value` is its formula by NumPy's and SciPy's own functions, `initialization` the recipe that
    "auto" should choose for it. One with a kink has no derivative at zero.
    """

    value: Callable[[np.ndarray], np.ndarray]
    initialization: str = "he_normal"
    has_kink: bool = False
    allocates: str = ""  # why its derivative may make arrays of the size of the batch, if it may


def _selu(z: np.ndarray) -> np.ndarray:
    return 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))


ACTIVATION_ROWS = {
    "identity": ActivationRow(lambda z: z, "glorot_uniform"),
    "logistic": ActivationRow(special.expit, "glorot_uniform"),
    "tanh": ActivationRow(np.tanh, "glorot_uniform"),
    "relu": ActivationRow(lambda z: np.where(z > 0, z, 0.0), has_kink=True),
    "leaky_relu": ActivationRow(lambda z: np.where(z > 0, z, 0.01 * z), has_kink=True),
    "elu": ActivationRow(lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0)))),
    "selu": ActivationRow(_selu, "lecun_normal", has_kink=True),
    "gelu": ActivationRow(lambda z: z * special.ndtr(z)),
    "silu": ActivationRow(lambda z: z * special.expit(z)),
    "mish": ActivationRow(
        lambda z: z * np.tanh(np.logaddexp(0.0, z)),
        allocates="its derivative needs a third array beside the two that it is given",
    ),
    "softplus": ActivationRow(lambda z: np.logaddexp(0.0, z)),
}


class Bump:
    """A user's own activation, which takes real numbers only: ``g(z) = z e^-|z|``."""

    def value(self, z):
        return z * np.exp(-np.abs(z))

    def derivative(self, z):
        return (1.0 - np.abs(z)) * np.exp(-np.abs(z))


def off_zero(x: np.ndarray) -> np.ndarray:
    """Move numbers away from zero by a tenth, where kinks are."""
    return np.where(x < 0, x - 0.1, x + 0.1)


def normal_off_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal numbers without those near zero."""
    return off_zero(rng.normal(size=shape))


@dataclass(frozen=True)
class LayerRow:
    """A layer to test, made for as many columns as come, and what may not be asked of it.

    Where complex numbers do not pass through it, its gradient is held against central differences.
    The input is normal numbers off zero unless the row makes its own, ``f(rng, shape) -> array``.
    """

    make_layer: Callable[[int], Layer]
    is_analytic: bool = True
    has_kink: bool = False
    allocates: str = ""
    make_x: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = normal_off_zero


# Two of them divide by a small deviation twice; this epsilon keeps the gradient well-conditioned.
BATCH_NORM = BatchNorm(epsilon=0.1)


def categories(n_in: int) -> CategoricalEmbedding:
    """Return an embedding of columns with 4, 1, 3, 4, ... levels, in 2, 3, 1, 2, ... units."""
    return CategoricalEmbedding(((4, 1, 3) * n_in)[:n_in], ((2, 3, 1, 2) * n_in)[:n_in])


def codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return codes for `categories`, as floats."""
    sizes = np.array(categories(shape[2]).sizes)
    return rng.integers(0, sizes, shape).astype(np.float64)


def numbers_and_codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return columns of which the last third, rounded down, are codes for `categories`."""
    x, n_codes = normal_off_zero(rng, shape), shape[2] // 3
    if n_codes:
        x[..., -n_codes:] = codes(rng, (*shape[:2], n_codes))
    return x


def numbers_and_categories(n_in: int) -> Concatenate:
    """Return branches that pass on, that embed and that transform, as far as the columns reach."""
    n_codes = n_in // 3
    n_numbers = n_in - n_codes
    n_plain = n_numbers // 2
    branches = [
        Branch(n_numbers - n_plain, (FeatureScaling(), NumericEmbedding(2, 2), Dense(3))),
        Branch(n_plain),
        Branch(n_codes, (categories(n_codes), Dropout(0.3))),
    ]
    return Concatenate(tuple(branch for branch in branches if branch.n_columns))


BOTH_KINDS = ("waves", "ramps")

LAYER_ROWS = {
    "dense": LayerRow(lambda n_in: Dense(5)),
    "dense_with_one_unit": LayerRow(lambda n_in: Dense(1)),
    "dropout": LayerRow(lambda n_in: Dropout(0.4)),
    "dropout_rate_zero": LayerRow(lambda n_in: Dropout(0.0)),
    "batch_norm": LayerRow(lambda n_in: BatchNorm()),
    "layer_norm": LayerRow(lambda n_in: LayerNorm()),
    "residual": LayerRow(
        lambda n_in: Residual(
            (Dense(n_in), LayerNorm(), Activation(ACTIVATIONS["tanh"]()), Dropout(0.3))
        )
    ),
    "residual_without_normalisation": LayerRow(
        lambda n_in: Residual((Dense(n_in), Activation(ACTIVATIONS["silu"]()), Dropout(0.3)))
    ),
    "residual_in_residual": LayerRow(
        lambda n_in: Residual(
            (Residual((BATCH_NORM, Activation(ACTIVATIONS["gelu"]()))), BATCH_NORM)
        )
    ),
    "feature_scaling": LayerRow(lambda n_in: FeatureScaling()),
    "numeric_embedding": LayerRow(lambda n_in: NumericEmbedding(3, 2)),
    "numeric_embedding_with_one_unit": LayerRow(lambda n_in: NumericEmbedding(1, 1)),
    "numeric_embedding_by_ramps": LayerRow(lambda n_in: NumericEmbedding(3, 2, ("ramps",))),
    "numeric_embedding_by_turns": LayerRow(lambda n_in: NumericEmbedding(3, 2, BOTH_KINDS)),
    "categorical_embedding": LayerRow(categories, make_x=codes),
    "concatenate": LayerRow(numbers_and_categories, make_x=numbers_and_codes),
    "concatenate_in_concatenate": LayerRow(
        lambda n_in: Concatenate(
            (Branch(n_in, (numbers_and_categories(n_in), Activation(ACTIVATIONS["tanh"]()))),)
        ),
        make_x=numbers_and_codes,
    ),
    **{
        f"activation_{name}": LayerRow(
            lambda n_in, name=name: Activation(ACTIVATIONS[name]()),
            has_kink=row.has_kink,
            allocates=row.allocates,
        )
        for name, row in ACTIVATION_ROWS.items()
    },
    "activation_custom": LayerRow(
        lambda n_in: Activation(CustomActivation(Bump())),
        is_analytic=False,
        has_kink=True,
        allocates="the user's function returns a new array",
    ),
}

LOSS_ROWS = {
    "binary_cross_entropy": BinaryCrossEntropy(),
    **{f"focal_{gamma}": FocalLoss(gamma) for gamma in (0.0, 0.5, 2.0, 5.0)},
}

INITIALIZER_VARIANCE = {
    "zeros": lambda fan_in, fan_out: 0.0,
    "normal": lambda fan_in, fan_out: 0.01**2,
    "uniform": lambda fan_in, fan_out: 0.01**2 / 3,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "orthogonal": lambda fan_in, fan_out: 1 / max(fan_in, fan_out),
}

# Whether the schedule counts steps or samples, and whether it needs to know when training ends.
SCHEDULE_ROWS = {
    "constant": ("steps", False),
    "invscaling": ("samples", False),
    "adaptive": ("steps", False),
    "cosine": ("steps", True),
    "one_cycle": ("steps", True),
    "coslog4": ("steps", True),
}


@dataclass(frozen=True)
class SolverRow:
    """Arguments of `make_optimizer`, and of the same optimizer in PyTorch."""

    solver: str
    arguments: dict[str, Any]
    torch_name: str
    torch_arguments: dict[str, Any]


SOLVER_ROWS = {
    "gd": SolverRow("gd", {}, "SGD", {}),
    "sgd": SolverRow("sgd", {"momentum": 0.0}, "SGD", {}),
    "momentum": SolverRow(
        "sgd", {"momentum": 0.9, "nesterov": False}, "SGD", {"momentum": 0.9, "nesterov": False}
    ),
    "nesterov": SolverRow(
        "sgd", {"momentum": 0.8, "nesterov": True}, "SGD", {"momentum": 0.8, "nesterov": True}
    ),
    "rmsprop": SolverRow(
        "rmsprop", {"beta_2": 0.99, "epsilon": 1e-7}, "RMSprop", {"alpha": 0.99, "eps": 1e-7}
    ),
    "adam": SolverRow(
        "adam", {"beta_1": 0.85, "beta_2": 0.99}, "Adam", {"betas": (0.85, 0.99), "eps": 1e-8}
    ),
    "adamw": SolverRow("adamw", {}, "AdamW", {"weight_decay": 0.0}),
    "nadam": SolverRow("nadam", {"beta_1": 0.85}, "NAdam", {"betas": (0.85, 0.999)}),
}


def classes_defined_in(module: Any, method: str) -> set[type]:
    """Return the classes of a module, made in it, that have this method; protocols left out."""
    return {
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and item.__module__.startswith(module.__name__)
        and hasattr(item, method)
        and not getattr(item, "_is_protocol", False)
    }


def random_params(network: Network, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """Return normal numbers, and positive ones for statistics: a variance is among them.

    What members take turns in without training it is as it begins: it says what they are.
    """
    params = rng.normal(0.0, scale, (network.n_members, network.layout.n_params))
    statistics = params[:, network.layout.trainable.stop :]
    statistics[...] = 0.5 + np.abs(statistics)
    for name, entry in network.layout.entries.items():
        if isinstance(entry.spec.init, tuple) and not entry.spec.trainable:
            for member, values in enumerate(network.layout.view(params, name)):
                values[...] = entry.spec.draw(rng, member)
    return params


def nan_grads(network: Network, dtype: np.typing.DTypeLike = np.float64) -> np.ndarray:
    """Return an array for gradients in which it shows what has not been written."""
    return np.full((network.n_members, network.layout.trainable.stop), np.nan, dtype)


def random_arrays(
    row: LayerRow, n_members: int, n_samples: int, n_in: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an input of the row's, parameters, and a cotangent in the shape of the output."""
    rng = np.random.default_rng(seed)
    network = Network((row.make_layer(n_in),), n_in, n_members)
    x = row.make_x(rng, (n_members, n_samples, n_in))
    params = random_params(network, rng)
    return x, params, rng.normal(size=(n_members, n_samples, network.nodes[0].plan.n_out))


def run_layer(
    layer: Layer,
    x: np.ndarray,
    params: np.ndarray,
    *,
    training: bool = False,
    grads: np.ndarray | None = None,
    rngs: Sequence[Any] | None = None,
    sample_weight: np.ndarray | None = None,
) -> tuple[np.ndarray, Slot]:
    """Run a layer forward, alone in a network of its own; return the output and the slot.

    Unless `rngs` are given, the random streams begin anew in every
    call, so that a layer that draws numbers is the same function each time.
    """
    network = Network((layer,), x.shape[2], len(params))
    if rngs is None:
        rngs = RandomStreams.spawn(0, range(len(params))).dropout
    passage = network.bind(
        params,
        x.shape[1],
        need_grad_x=True,
        grads=grads,
        training=training,
        words=RandomWords(rngs),
    )
    [(_, slot)] = passage._steps
    slot.batch.sample_weight = sample_weight
    return layer.forward(x, slot), slot


# A plain fit, whatever the defaults of the estimator are; plateaus do not end it.
PLAIN_FIT = {
    "hidden_layer_sizes": (10,),
    "activation": "relu",
    "initialization": "auto",
    "dropout": 0.0,
    "alpha": 1e-4,
    "weight_decay": None,
    "solver": "adam",
    "batch_size": "auto",
    "learning_rate": "constant",
    "learning_rate_init": 1e-3,
    "max_iter": 100,
    "shuffle": True,
    "tol": 1e-4,
    "n_iter_no_change": np.inf,
    "early_stopping": False,
    "max_grad_norm": None,
    "ema_decay": None,
}


def pose_training(
    rows: Rows,
    *,
    members: Sequence[int] = (0,),
    seed: int = 0,
    dtype: type = np.float64,
    **parameters: Any,
) -> tuple[TrainingPlan, TrainingState]:
    """Pose a fit of the engine: the plan, and the first state of the members with these numbers.

    The parameters are the estimator's, on top of `PLAIN_FIT`.
    """
    parameters = {**PLAIN_FIT, "n_members": len(members), **parameters}
    given = Parameters.of(DeepBinaryClassifier(**parameters))
    resolved = resolve(given, {}, n_samples=len(rows))
    network = build_network(Architecture.of(resolved, InputColumns(rows.X.shape[1])))
    plan = make_plan(resolved, network, rows)
    streams = RandomStreams.spawn(seed, members)
    params = network.init_params(streams.initialization, dtype)
    return plan, TrainingState(
        params=params,
        optimizer=plan.optimizer.init(params[:, network.layout.trainable]),
        streams=streams,
        rate_factor=np.ones((len(members), 1), dtype),
    )


BUILTIN_ACTIVATION_CLASSES = classes_defined_in(activations_module, "value_into") - {
    activations_module.BuiltinActivation,
    CustomActivation,
}
