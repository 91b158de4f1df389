"""What all formulas keep to, whatever they compute: layers, losses, transforms and solvers.

Gradients are held against derivatives that know nothing of back-propagation. The complex step,
``f'(x) = Im f(x + i h) / h``, is exact to rounding; central differences judge the rest. Layers are
tested along random gradients of their output: with the cost ``sum(grad_y * y)``, what the backward
pass returns is the gradient of the cost.
"""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given
from strategies import seeds, shapes_NI
from tables import (
    BATCH_NORM,
    EXECUTORS,
    LAYER_ROWS,
    LOSS_ROWS,
    PARTS,
    SOLVER_ROWS,
    TRANSFORM_ROWS,
    build_optimizer,
    classes_defined_in,
    draw_first,
    make_layout,
    take_steps,
)

from skdnn import nn
from skdnn.nn import Activation, Dense, Dropout, Layer, Loss, Network, losses
from skdnn.nn.activations import Tanh
from skdnn.optim import Optimizer, Transform, solvers
from skdnn.optim.solvers import SOLVERS

COMPLEX_STEP = 1e-30
CENTRAL_STEP = 1e-6
N_ENTRIES = 6  # of each input, chosen at random, that are compared one by one

parts = pytest.mark.parametrize("make_part", PARTS.values(), ids=PARTS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
executors = pytest.mark.parametrize("executor", EXECUTORS)
TOLERANCES = {np.float32: 1e-4, np.float64: 1e-10}


def assert_close(actual, expected, tolerance):
    """Compare arrays by name: absolutely where they are small, relative to their largest else."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        bound = tolerance * max(1.0, np.abs(array).max(initial=0.0))
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=bound, err_msg=name)


def test_tables_name_every_layer_loss_transform_and_solver():
    exported = {getattr(nn, name) for name in nn.__all__}
    layers = {item for item in exported if isinstance(item, type) and issubclass(item, Layer)}
    in_network = {type(layer) for row in LAYER_ROWS.values() for layer in with_inner(row)}
    assert in_network == layers - {Layer}
    assert {type(loss) for loss in LOSS_ROWS.values()} == classes_defined_in(losses, "loss") - {
        Loss
    }
    known = classes_defined_in(solvers, "update") - {Transform, Optimizer}
    assert {type(transform) for transform in TRANSFORM_ROWS.values()} == known
    assert {row.solver for row in SOLVER_ROWS.values()} == set(SOLVERS)


def with_inner(row):
    """Return the layer of a row, and the layers within it."""
    layer = row.make_layer(3)
    return [inner for _, inner, _ in layer.walk(3)]


@pytest.mark.parametrize("row", LAYER_ROWS.values(), ids=LAYER_ROWS)
def test_layer_is_a_frozen_description(row):
    layer = row.make_layer(3)
    for field in fields(layer):
        with pytest.raises(FrozenInstanceError):
            setattr(layer, field.name, None)


@parts
@dtypes
@given(shape=shapes_NI, seed=seeds)
def test_formula_is_pure_and_keeps_the_dtype(make_part, dtype, shape, seed):
    """The inputs are read-only, and a second call returns the same to the bit."""
    part = make_part(*shape, seed)
    first, second = part.run(part.cast(dtype)), part.run(part.cast(dtype))
    for name, array in first.items():
        assert array.dtype == dtype, name
        assert np.isfinite(array).all(), name
        np.testing.assert_array_equal(array, second[name])
        assert array.shape == np.shape(part.arrays.get(name.removeprefix("grad "), array))


@parts
@executors
@given(shape=shapes_NI, seed=seeds)
def test_traced_formula_equals_the_formula(make_part, executor, shape, seed):
    part = make_part(*shape, seed)
    for dtype, tolerance in TOLERANCES.items():
        assert_close(part.run_traced(dtype, executor), part.run(part.cast(dtype)), tolerance)


@parts
@given(shape=shapes_NI, seed=seeds)
def test_formula_in_float32_equals_that_in_float64(make_part, shape, seed):
    part = make_part(*shape, seed)
    narrow = part.cast(np.float32)
    wide = {name: array.astype(np.float64) for name, array in narrow.items()}
    assert_close(part.run(narrow), part.run(wide), 1e-3)


def derivative_along(part, inputs, directions):
    """Return the derivative of the cost along a direction of some of the inputs, in float64."""

    def cost(step):
        moved = {name: inputs[name] + step * d for name, d in directions.items()}
        return part.run({**inputs, **moved})["cost"]

    if part.is_analytic:
        derivative = cost(1j * COMPLEX_STEP)
        assert derivative.real == pytest.approx(float(cost(0.0)), rel=1e-9, abs=1e-9)
        return derivative.imag / COMPLEX_STEP
    return (cost(CENTRAL_STEP) - cost(-CENTRAL_STEP)) / (2.0 * CENTRAL_STEP)


GRADIENTS = {
    name: make for name, make in PARTS.items() if "cost" in make(2, 3, 0).run(make(2, 3, 0).arrays)
}
parts_with_gradients = pytest.mark.parametrize("make_part", GRADIENTS.values(), ids=GRADIENTS)


def gradients_of(part, inputs):
    """Return what the formula says are the gradients, by the names of the inputs."""
    outputs = part.run(inputs)
    names = [name for name in inputs if f"grad {name}" in outputs]
    return {name: outputs[f"grad {name}"] for name in names}


@parts_with_gradients
@given(shape=shapes_NI, seed=seeds)
def test_gradient_equals_the_numerical_derivative(make_part, shape, seed):
    """At some entries, and along a random direction of all inputs at once."""
    part, rng = make_part(*shape, seed), np.random.default_rng(seed)
    inputs = part.cast(np.float64)
    gradients = gradients_of(part, inputs)
    accuracy = 1e-12 if part.is_analytic else 1e-6
    for name, gradient in gradients.items():
        bound = accuracy * max(1.0, np.abs(gradient).max(initial=0.0))
        for i in rng.permutation(gradient.size)[:N_ENTRIES]:
            direction = np.zeros(gradient.shape)
            direction.flat[i] = 1.0
            derivative = derivative_along(part, inputs, {name: direction})
            assert gradient.flat[i] == pytest.approx(derivative, rel=0, abs=bound), name
    assert_directional(part, inputs, gradients, rng, accuracy)


@parts_with_gradients
@given(shape=shapes_NI, seed=seeds)
def test_gradient_in_float32_agrees_along_a_random_direction(make_part, shape, seed):
    part, rng = make_part(*shape, seed), np.random.default_rng(seed)
    narrow = part.cast(np.float32)
    wide = {name: array.astype(np.float64) for name, array in narrow.items()}
    assert_directional(part, wide, gradients_of(part, narrow), rng, 1e-3)


def assert_directional(part, inputs, gradients, rng, accuracy):
    directions = {name: rng.normal(size=array.shape) for name, array in gradients.items()}
    products = [(gradients[name] * d).ravel() for name, d in directions.items()]
    products = np.concatenate(products).astype(np.float64)
    derivative = derivative_along(part, inputs, directions)
    bound = accuracy * max(1.0, np.abs(products).sum())
    assert products.sum() == pytest.approx(derivative, rel=0, abs=bound)


# Some steps of training, by the program and by the formulas.


def train_part(kind, name, executor, dtype, members=(0,)):
    """Train a small network that has the part in it."""
    rng, n_in = np.random.default_rng(0), 6
    X, layers, settings = rng.normal(size=(40, n_in)), (Dense(4), Activation(Tanh())), {}
    if kind == "layer":
        row = LAYER_ROWS[name]
        layers, X = (row.make_layer(n_in),), row.make_x(rng, X.shape)
    if kind == "loss":
        settings["loss"] = LOSS_ROWS[name]
    network = Network((*layers, BATCH_NORM, Dropout(0.2), Dense(1)), n_in, 3)
    if kind == "solver":
        n = network.layout.n_trainable
        settings["optimizer"] = build_optimizer(
            SOLVER_ROWS[name],
            make_layout((5, 0.5), (n - 5, 1.0), n_decayed=network.layout.n_decayed),
            l2=0.1,
            weight_decay=0.1,
            max_grad_norm=0.5,
        )
    params = draw_first(network).astype(dtype)[list(members)]
    y, weight = rng.integers(0, 2, 40), rng.exponential(size=40) * rng.integers(0, 2, 40)
    return take_steps(
        network,
        params,
        X.astype(dtype),
        y,
        executor=executor,
        weight=weight,
        members=members,
        **settings,
    )


TRAINED = [
    *(("layer", name) for name in LAYER_ROWS),
    *(("loss", name) for name in LOSS_ROWS),
    *(("solver", name) for name in SOLVER_ROWS),
]
trained = pytest.mark.parametrize(("kind", "name"), TRAINED, ids=[" ".join(t) for t in TRAINED])


@trained
@dtypes
@executors
def test_training_by_the_program_ends_where_the_formulas_end(kind, name, executor, dtype):
    traced, eager = (train_part(kind, name, by, dtype) for by in (executor, "eager"))
    assert_close(traced, eager, TOLERANCES[dtype])
    assert all(array.dtype == dtype for array in traced.values())


@trained
@pytest.mark.parametrize("executor", [*EXECUTORS, "eager"])
def test_members_side_by_side_train_as_each_alone(kind, name, executor):
    together = train_part(kind, name, executor, np.float64, (0, 1, 2))
    for k in range(3):
        alone = train_part(kind, name, executor, np.float64, (k,))
        own = {key: array[k : k + 1] for key, array in together.items()}
        assert_close(own, alone, 1e-12)
    assert np.abs(np.diff(together["params"], axis=0)).max() > 0.01
