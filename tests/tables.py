"""One table for each kind of part. A part with a row here has all the property tests of its kind.

Each table is guarded by a test that it names everything there is. `PARTS` joins the rows that are
formulas (layers, losses, transforms and solvers), each as a function of named arrays, with arrays
to try it on. Below stand the ways in which several test files run a formula, or train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from skdnn.engine.executors import Feed, Memory
from skdnn.engine.formula import Formula
from skdnn.nn import (
    Activation,
    BatchNorm,
    BinaryCrossEntropy,
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Context,
    Dense,
    Dropout,
    FeatureScaling,
    FocalLoss,
    Layer,
    LayerNorm,
    Loss,
    Network,
    NumericEmbedding,
    Params,
    Residual,
)
from skdnn.nn.activations import ACTIVATIONS
from skdnn.nn.losses import OwnLoss
from skdnn.nn.network import Layout
from skdnn.optim.solvers import (
    AccumulateMomentum,
    AddL2Gradient,
    ClipByGlobalNorm,
    DecayWeights,
    Optimizer,
    ScaleByAdam,
    ScaleByLearningRate,
    ScaleByNAdam,
    ScaleByRMS,
    make_optimizer,
)
from skdnn.training.step import training_formula

Arrays = dict[str, Any]


@dataclass(frozen=True)
class ActivationRow:
    """What is known of an activation function from elsewhere.

    `value` is its formula by NumPy's and SciPy's own functions, `initialization` the recipe that
    "auto" should choose for it. One with a kink has no derivative at zero.
    """

    value: Callable[[np.ndarray], np.ndarray]
    initialization: str = "he_normal"
    has_kink: bool = False


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
    "mish": ActivationRow(lambda z: z * np.tanh(np.logaddexp(0.0, z))),
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
    make_x: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = normal_off_zero


# Two of them divide by a small deviation twice; this epsilon keeps the gradient well-conditioned.
BATCH_NORM = BatchNorm(epsilon=0.1)


def categories(n_in: int) -> CategoricalEmbedding:
    """Return an embedding of columns with 4, 1, 3, 4, ... levels, in 2, 3, 1, 2, ... units."""
    return CategoricalEmbedding(((4, 1, 3) * n_in)[:n_in], ((2, 3, 1, 2) * n_in)[:n_in])


def codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return codes for `categories`, as floats."""
    sizes = np.array(categories(shape[1]).sizes)
    return rng.integers(0, sizes, shape).astype(np.float64)


def numbers_and_codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return columns of which the last third, rounded down, are codes for `categories`."""
    x, n_codes = normal_off_zero(rng, shape), shape[1] // 3
    if n_codes:
        x[..., -n_codes:] = codes(rng, (shape[0], n_codes))
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
    "numeric_embedding_piecewise": LayerRow(
        lambda n_in: NumericEmbedding(3, 2, "piecewise_linear")
    ),
    "categorical_embedding": LayerRow(categories, make_x=codes),
    "categorical_embedding_not_trainable": LayerRow(
        lambda n_in: replace(categories(n_in), trainable=False), make_x=codes
    ),
    "concatenate": LayerRow(numbers_and_categories, make_x=numbers_and_codes),
    "concatenate_in_concatenate": LayerRow(
        lambda n_in: Concatenate(
            (Branch(n_in, (numbers_and_categories(n_in), Activation(ACTIVATIONS["tanh"]()))),)
        ),
        make_x=numbers_and_codes,
    ),
    **{
        f"activation_{name}": LayerRow(lambda n_in, name=name: Activation(ACTIVATIONS[name]()))
        for name in ACTIVATION_ROWS
    },
    "activation_custom": LayerRow(lambda n_in: Activation(Bump()), is_analytic=False),
}

LOSS_ROWS = {
    "binary_cross_entropy": BinaryCrossEntropy(),
    **{f"focal_{gamma}": FocalLoss(gamma) for gamma in (0.0, 0.5, 2.0, 5.0)},
    "own": OwnLoss(BinaryCrossEntropy()),  # an object with the two methods, whatever its class
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
    """Parameters of the estimator for a solver, and arguments of the same optimizer in PyTorch."""

    solver: str
    parameters: dict[str, Any]
    torch_name: str
    torch_arguments: dict[str, Any]


SOLVER_ROWS = {
    "gd": SolverRow("gd", {}, "SGD", {}),
    "sgd": SolverRow("sgd", {"momentum": 0.0}, "SGD", {}),
    "momentum": SolverRow(
        "sgd",
        {"momentum": 0.9, "nesterovs_momentum": False},
        "SGD",
        {"momentum": 0.9, "nesterov": False},
    ),
    "nesterov": SolverRow(
        "sgd",
        {"momentum": 0.8, "nesterovs_momentum": True},
        "SGD",
        {"momentum": 0.8, "nesterov": True},
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


N_PARAMS, N_DECAYED = 7, 5
LR_FACTORS = ((3, 1.0), (2, 0.1), (2, 6.0))

TRANSFORM_ROWS = {
    "add_l2_gradient": AddL2Gradient(0.1, N_DECAYED),
    "clip_by_global_norm": ClipByGlobalNorm(0.5),
    "scale_by_rms": ScaleByRMS(0.9, 1e-8),
    "scale_by_adam": ScaleByAdam(0.9, 0.99, 1e-8),
    "scale_by_nadam": ScaleByNAdam(0.9, 0.99, 1e-8),
    "scale_by_learning_rate": ScaleByLearningRate(((N_PARAMS, 1.0),)),
    "scale_by_learning_rate_with_factors": ScaleByLearningRate(LR_FACTORS),
    "accumulate_momentum": AccumulateMomentum(0.9),
    "accumulate_momentum_with_nesterov": AccumulateMomentum(0.9, nesterov=True),
    "decay_weights": DecayWeights(0.1, N_DECAYED),
}


SOLVER_DEFAULTS = {
    "weight_decay": 0.0,
    "max_grad_norm": None,
    "momentum": 0.9,
    "nesterovs_momentum": True,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-8,
}


def build_optimizer(
    row: SolverRow, layout: Any = None, *, l2: float = 0.0, **parameters: Any
) -> Optimizer:
    """Build the optimizer of a row, for seven parameters unless a layout says otherwise."""
    parameters = {**SOLVER_DEFAULTS, "solver": row.solver, **row.parameters, **parameters}
    return make_optimizer(SimpleNamespace(**parameters), layout or make_layout(), l2)


def make_layout(*lr_factors: tuple[int, float], n_decayed: int = N_DECAYED) -> Any:
    """Return what an optimizer asks of a layout: numbers of parameters, with their factors."""
    return SimpleNamespace(lr_factors=lr_factors or ((N_PARAMS, 1.0),), n_decayed=n_decayed)


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


# Formulas as functions of named arrays, and arrays to try them on.

TakeBits = Callable[[int, int], Any]
EXECUTORS = ("numpy", "numba") if find_spec("numba") else ("numpy",)
N_BITS = 4096  # more random numbers than any part takes of the small arrays here


@dataclass(frozen=True)
class Part:
    """A formula, and arrays to try it on.

    Attributes
    ----------
    function : callable
        ``function(arrays, take_bits)`` returns arrays by name. If "cost" is among them, "grad NAME"
        is what the formula says is its gradient with respect to the input NAME.
    arrays : dict of str to ndarray
    bits : ndarray of uint16
    is_analytic : bool
        Whether complex numbers pass through it.
    """

    function: Callable[[Arrays, TakeBits], Arrays]
    arrays: Arrays
    bits: np.ndarray
    is_analytic: bool = True

    def cast(self, dtype: Any) -> Arrays:
        """Return the inputs in a dtype, which nobody may write into."""
        arrays = {name: np.array(array, dtype) for name, array in self.arrays.items()}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def run(self, arrays: Arrays) -> Arrays:
        """Run the formula as it stands."""
        return self.function(arrays, lambda start, size: self.bits[start : start + size])

    def run_traced(self, dtype: Any, executor: str) -> Arrays:
        """Run the program of the formula."""
        arrays = self.cast(dtype)
        return run_traced(self.function, arrays, self.run(arrays), self.bits, executor)


def run_traced(
    function: Callable[[Arrays, TakeBits], Arrays],
    arrays: Arrays,
    outputs: Arrays,
    bits: np.ndarray | None = None,
    executor: str = "numpy",
) -> Arrays:
    """Run the program of a function of named arrays; `outputs` says which there are."""
    arrays = {"x": np.zeros((1, 1), np.result_type(*arrays.values())), **arrays}
    shapes = {name: np.shape(array) for name, array in (outputs | arrays).items()}
    x, program = arrays["x"], Formula(function, shapes).compile(executor)
    executable = Memory(x.dtype).executable(program)
    for name, array in arrays.items():
        executable.views[name][0] = array
    bits = None if bits is None else bits[np.newaxis, np.newaxis, : program.n_bits]
    with np.errstate(over="ignore"):  # as in training; e^-z may be infinite
        executable.run(Feed(x, np.arange(len(x))[np.newaxis, np.newaxis], bits=bits))
    return {name: executable.views[name][0].copy() for name in outputs}


def make_context(
    training: bool = False, weight: np.ndarray | None = None, seed: int = 0, n_bits: int = N_BITS
) -> Context:
    """Return a context that gives a layer the same random numbers each time."""
    bits = np.random.default_rng(seed).integers(0, 1 << 16, n_bits, dtype=np.uint16)
    return Context(training, weight, lambda start, size: bits[start : start + size])


def draw_params(layer: Layer, n_in: int, rng: np.random.Generator) -> Arrays:
    """Return normal numbers by name, and positive ones for statistics: a variance is among them."""
    return {
        name: rng.normal(size=spec.shape)
        if spec.trainable
        else 0.5 + np.abs(rng.normal(size=spec.shape))
        for name, spec in Layout(layer, n_in).specs.items()
    }


def make_layer_part(
    row: LayerRow, n_samples: int, n_in: int, seed: int, *, is_training: bool
) -> Part:
    """Return the passes of a layer in a batch of which some rows weigh nothing."""
    layer, rng = row.make_layer(n_in), np.random.default_rng(seed)
    params = draw_params(layer, n_in, rng)
    arrays = {
        "x": row.make_x(rng, (n_samples, n_in)),
        "grad_y": rng.normal(size=(n_samples, layer.n_out(n_in))),
        **{f"p.{name}": array for name, array in params.items()},
    }
    if rng.integers(2):
        arrays["weight"] = np.maximum(rng.normal(1.0, 1.0, n_samples), 0.0)

    def function(arrays: Arrays, take_bits: TakeBits) -> Arrays:
        x, p = arrays["x"], Params({name: arrays[f"p.{name}"] for name in params})
        ctx = Context(is_training, arrays.get("weight"), take_bits)
        y = layer.forward(x, p, ctx)
        grad_x, grads = layer.backward(arrays["grad_y"], x, p, ctx)
        outputs = {"y": y, "cost": (arrays["grad_y"] * y).sum(), "grad x": grad_x}
        outputs |= {f"grad p.{name}": grad for name, grad in grads.items()}
        statistics = layer.statistics(x, p, ctx) if is_training else {}
        return outputs | {f"p.{name}": values for name, values in statistics.items()}

    bits = rng.integers(0, 1 << 16, N_BITS, dtype=np.uint16)
    return Part(function, arrays, bits, row.is_analytic)


def make_loss_part(loss: Loss, n_samples: int, n_in: int, seed: int) -> Part:
    """Return the cost of a batch, whose labels may lie between 0 and 1."""
    rng = np.random.default_rng(seed)
    smoothing = rng.choice([0.0, 0.1, 1.0])
    arrays = {
        "z": rng.normal(0.0, 10.0, n_samples),
        "y_true": rng.integers(0, 2, n_samples) * (1.0 - smoothing) + 0.5 * smoothing,
    }
    if rng.integers(2):
        arrays["weight"] = np.maximum(rng.normal(1.0, 1.0, n_samples), 0.0)

    def function(arrays: Arrays, take_bits: TakeBits) -> Arrays:
        y_true, z, weight = arrays["y_true"], arrays["z"], arrays.get("weight")
        losses = loss.loss(y_true, z)
        weighted = losses if weight is None else losses * weight
        gradient = loss.gradient(y_true, z, weight)
        return {"losses": losses, "cost": weighted.mean(), "grad z": gradient}

    return Part(function, arrays, np.zeros(0, np.uint16))


def make_step_part(optimizer: Optimizer, n_samples: int, n_in: int, seed: int) -> Part:
    """Return a step of an optimizer, the third, from a state that has moments already."""
    rng = np.random.default_rng(seed)
    grads, params = rng.normal(size=(2, N_PARAMS))
    state = {name: np.abs(rng.normal(size=N_PARAMS)) for name in optimizer.init(params)}
    scalars = optimizer.prepare(np.array([3]), np.array([0.05]))
    arrays = {"grads": grads, "params": params, **state}
    arrays |= {name: np.array(value[0]) for name, value in scalars.items()}

    def function(arrays: Arrays, take_bits: TakeBits) -> Arrays:
        new_params, new_state = optimizer.update(
            arrays["grads"],
            arrays["params"],
            {name: arrays[name] for name in state},
            {name: arrays[name] for name in scalars},
        )
        return {"params": new_params, **new_state}

    return Part(function, arrays, np.zeros(0, np.uint16))


PARTS: dict[str, Callable[[int, int, int], Part]] = {
    **{
        f"{name} in {mode}": partial(make_layer_part, row, is_training=mode == "training")
        for name, row in LAYER_ROWS.items()
        for mode in ("training", "prediction")
    },
    **{name: partial(make_loss_part, loss) for name, loss in LOSS_ROWS.items()},
    **{name: partial(make_step_part, Optimizer((row,))) for name, row in TRANSFORM_ROWS.items()},
    **{
        f"solver {name}": partial(
            make_step_part,
            build_optimizer(
                row, make_layout(*LR_FACTORS), l2=0.1, weight_decay=0.2, max_grad_norm=0.5
            ),
        )
        for name, row in SOLVER_ROWS.items()
    },
}
"""``make_part(n_samples, n_in, seed)`` by name, for all that is a formula."""


# Networks.


def random_params(network: Network, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """Return normal numbers, and positive ones for statistics: a variance is among them."""
    params = rng.normal(0.0, scale, (network.n_members, network.layout.n_params))
    statistics = params[:, network.layout.n_trainable :]
    statistics[...] = 0.5 + np.abs(statistics)
    return params


def unflatten(network: Network, params: np.ndarray, member: int = 0) -> Params:
    """Return the parameters of a member by name."""
    n_trainable = network.layout.n_trainable
    own = params[member]
    return network.layout.unflatten(own[:n_trainable], own[n_trainable:])


def logits_of(network: Network, params: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return the logits of each member, (n_members, n_samples), by the layers' own formulas."""
    return np.stack(
        [
            network.of_member(k).forward(X, unflatten(network, params, k), Context())[:, 0]
            for k in range(len(params))
        ]
    )


def draw_first(network: Network, seed: int = 0, first_member: int = 0) -> np.ndarray:
    """Return first values, of each member by a stream of its own."""
    numbers = range(first_member, first_member + network.n_members)
    return network.init_params([np.random.default_rng([seed, k]) for k in numbers])


def take_steps(
    network: Network,
    params: np.ndarray,
    X: Any,
    y: np.ndarray,
    *,
    executor: str = "numpy",
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    weight: np.ndarray | None = None,
    batch_size: int = 8,
    n_steps: int = 5,
    members: Sequence[int] = (0,),
) -> Arrays:
    """Train members of one kind for some steps; return what they end in, by name.

    Each has rows and random numbers of its own, which go by its number.
    """
    layout, dtype = network.layout, params.dtype
    n, first = layout.n_trainable, min(members)
    if optimizer is None:
        optimizer = Optimizer((ScaleByLearningRate(((n, 1.0),)),))
    scalars = optimizer.prepare(np.arange(1, n_steps + 1), np.full(n_steps, 0.05))
    values = np.stack([*scalars.values(), np.linspace(1.0, 0.1, n_steps)], axis=1)
    own = params[: len(members)]
    state = {"params": own[:, :n], "ema_params": own[:, :n]}
    if layout.n_params > n:
        state |= {"statistics": own[:, n:], "ema_statistics": own[:, n:]}
    state |= {f"optimizer.{name}": array for name, array in optimizer.init(own[:, :n]).items()}
    formula = training_formula(
        network,
        network.of_member(first),
        batch_size,
        is_sparse=not isinstance(X, np.ndarray),
        loss=BinaryCrossEntropy() if loss is None else loss,
        optimizer=optimizer,
        state_names=tuple(optimizer.init(own[:, :n])),
        is_weighted=weight is not None,
        has_ema=True,
    )
    rngs = [np.random.default_rng(member) for member in members]
    index = np.stack([rng.integers(0, X.shape[0], (n_steps, batch_size)) for rng in rngs])
    bits = [rng.integers(0, 1 << 16, (n_steps, formula.n_bits), dtype=np.uint16) for rng in rngs]
    compiled = formula if executor == "eager" else formula.compile(executor)
    executable = Memory(dtype).executable(compiled, len(members))
    for name, array in state.items():
        executable.views[name][...] = array
    logits = np.empty(index.shape, dtype)
    own_weight = None if weight is None else np.stack([weight.astype(dtype)] * len(members))
    of_step = np.stack([values.astype(dtype)] * len(members))
    feed = Feed(X, index, y.astype(dtype), own_weight, of_step, np.stack(bits), logits)
    with np.errstate(over="ignore"):
        executable.run(feed)
    return {name: executable.views[name].copy() for name in state} | {"logits": logits}
