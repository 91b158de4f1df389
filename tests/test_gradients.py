"""The gradients of every part, against derivatives that know nothing of back-propagation.

The complex step, ``f'(x) = Im f(x + i h) / h``, is exact to rounding; it judges all that takes
complex numbers. Central differences judge the rest. Layers are tested along random cotangents: with
``L = sum(cotangent * y)``, the backward pass of the cotangent is the gradient of L.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import NORMALIZATIONS, labels_N, network_and_rows, seeds, shapes_MNI, weights_N
from tables import (
    ACTIVATION_ROWS,
    LAYER_ROWS,
    LOSS_ROWS,
    Bump,
    nan_grads,
    pose_training,
    random_arrays,
    random_params,
    run_layer,
)

from skdnn import DeepBinaryClassifier, _network, check_gradients
from skdnn._chain import Work
from skdnn._network import Network
from skdnn._random import RandomWords
from skdnn._trainer import Trainer
from skdnn.activations import ACTIVATIONS
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.layers import Dense
from skdnn.losses import smooth_labels
from skdnn.optimizers import AddL2Gradient
from skdnn.training.random_streams import RandomStreams
from skdnn.training.rows import Rows

COMPLEX_STEP = 1e-30
CENTRAL_STEP = 1e-6
N_ENTRIES = 6  # of each array, chosen at random, that are compared one by one

layer_rows = pytest.mark.parametrize("row", LAYER_ROWS.values(), ids=LAYER_ROWS)
WITH_PARAMETERS = {
    name: row
    for name, row in LAYER_ROWS.items()
    if Network((row.make_layer(3),), 3).layout.trainable.stop > 0
}
layer_rows_with_parameters = pytest.mark.parametrize(
    "row", WITH_PARAMETERS.values(), ids=WITH_PARAMETERS
)


def forward(layer, x, params, *, training, grads=None):
    """Run the layer on rows of which some weigh nothing; random numbers are always the same."""
    rngs = [np.random.default_rng(member) for member in range(len(params))]
    weight = np.maximum(np.random.default_rng(x.shape).normal(1.0, 1.0, x.shape[:2]), 0.0)
    return run_layer(
        layer, x, params.copy(), training=training, grads=grads, rngs=rngs, sample_weight=weight
    )


def backward(layer, x, params, cotangent, *, training=True, need_grad_x=True):
    """Return the gradients of the input and of the parameters, by the layer's own formulas."""
    grads = nan_grads(Network((layer,), x.shape[2], len(params)), params.dtype)
    _, slot = forward(layer, x, params, training=training, grads=grads)
    return layer.backward(cotangent.copy(), slot, need_grad_x=need_grad_x), grads


def derivative_along(row, x, params, cotangent, x_direction, params_direction, *, training=True):
    """Return the derivative of ``sum(cotangent * y)`` along a direction of all its arguments."""
    layer, n_trainable = row.make_layer(x.shape[2]), params_direction.shape[1]

    def total(step):
        new_params = params + 0.0 * step
        new_params[:, :n_trainable] += step * params_direction
        y, _ = forward(layer, x + step * x_direction, new_params, training=training)
        return (cotangent * y).sum()

    if row.is_analytic:
        return total(1j * COMPLEX_STEP).imag / COMPLEX_STEP
    return (total(CENTRAL_STEP) - total(-CENTRAL_STEP)) / (2 * CENTRAL_STEP)


def some_entries(array, seed):
    """Yield the positions of some entries, and arrays that are one there and zero elsewhere."""
    rng = np.random.default_rng(seed)
    for i in rng.permutation(array.size)[:N_ENTRIES]:
        direction = np.zeros(array.size)
        direction[i] = 1.0
        yield np.unravel_index(i, array.shape), direction.reshape(array.shape)


def tolerance(row, *gradients):
    """Absolute where the gradient is small, relative where it is large."""
    largest = max([1.0, *(np.abs(g).max() for g in gradients if g.size)])
    return (1e-12 if row.is_analytic else 1e-6) * largest


@layer_rows_with_parameters
@given(shape=shapes_MNI, seed=seeds)
def test_layer_gradient_of_each_parameter_equals_numerical_derivative(row, shape, seed):
    x, params, cotangent = random_arrays(row, *shape, seed)
    _, grads = backward(row.make_layer(x.shape[2]), x, params, cotangent)
    for entry, direction in some_entries(grads, seed):
        derivative = derivative_along(row, x, params, cotangent, np.zeros_like(x), direction)
        assert grads[entry] == pytest.approx(derivative, rel=0, abs=tolerance(row, grads))


@layer_rows
@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@given(shape=shapes_MNI, seed=seeds)
def test_layer_gradient_of_its_input_equals_numerical_derivative(row, training, shape, seed):
    x, params, cotangent = random_arrays(row, *shape, seed)
    grad_x, grads = backward(row.make_layer(x.shape[2]), x, params, cotangent, training=training)
    for entry, direction in some_entries(x, seed):
        derivative = derivative_along(
            row, x, params, cotangent, direction, np.zeros_like(grads), training=training
        )
        assert grad_x[entry] == pytest.approx(derivative, rel=0, abs=tolerance(row, grad_x))


@layer_rows
@given(shape=shapes_MNI, seed=seeds)
def test_layer_backward_is_the_adjoint_of_its_derivative(row, shape, seed):
    """The dot product test, ``<J d, c> = <d, J^T c>``, for a direction d of all inputs at once."""
    x, params, cotangent = random_arrays(row, *shape, seed)
    rng = np.random.default_rng(seed)
    grad_x, grads = backward(row.make_layer(x.shape[2]), x, params, cotangent)
    x_direction, params_direction = rng.normal(size=x.shape), rng.normal(size=grads.shape)
    forward_product = derivative_along(row, x, params, cotangent, x_direction, params_direction)
    backward_product = (x_direction * grad_x).sum() + (params_direction * grads).sum()
    scale = np.abs(x_direction * grad_x).sum() + np.abs(params_direction * grads).sum()
    bound = (1e-12 if row.is_analytic else 1e-6) * max(scale, 1.0)
    assert backward_product == pytest.approx(forward_product, rel=0, abs=bound)


@layer_rows
@given(shape=shapes_MNI, seed=seeds)
def test_layer_gradient_in_float32_agrees_along_a_random_direction(row, shape, seed):
    x, params, cotangent = (array.astype(np.float32) for array in random_arrays(row, *shape, seed))
    grad_x, grads = backward(row.make_layer(x.shape[2]), x, params, cotangent)
    assert grad_x.dtype == grads.dtype == np.float32
    x, params, cotangent = (array.astype(np.float64) for array in (x, params, cotangent))
    rng = np.random.default_rng(seed)
    x_direction, params_direction = rng.normal(size=x.shape), rng.normal(size=grads.shape)
    derivative = derivative_along(row, x, params, cotangent, x_direction, params_direction)
    from_gradients = (x_direction * grad_x).sum() + (params_direction * grads).sum()
    scale = np.abs(x_direction * grad_x).sum() + np.abs(params_direction * grads).sum()
    assert from_gradients == pytest.approx(derivative, rel=0, abs=1e-3 * max(scale, 1.0))


@layer_rows_with_parameters
@given(shape=shapes_MNI, seed=seeds)
def test_layer_gradients_of_parameters_need_no_gradient_of_the_input(row, shape, seed):
    """The first layer of a network is asked for its parameters' gradients only: the same ones."""
    x, params, cotangent = random_arrays(row, *shape, seed)
    _, expected = backward(row.make_layer(x.shape[2]), x, params, cotangent)
    _, grads = backward(row.make_layer(x.shape[2]), x, params, cotangent, need_grad_x=False)
    np.testing.assert_array_equal(grads, expected)


@pytest.mark.parametrize("name", ACTIVATION_ROWS)
@given(z=st.lists(st.floats(-30.0, 30.0), min_size=1, max_size=8))
def test_activation_derivative_equals_the_complex_step(name, z):
    """On numbers of any size, and at zero itself where there is no kink."""
    activation, z = ACTIVATIONS[name](), np.array(z)
    if ACTIVATION_ROWS[name].has_kink:
        z = np.where(np.abs(z) < 1e-3, 1e-3, z)
    numerical = activation.value(z + 1j * COMPLEX_STEP).imag / COMPLEX_STEP
    np.testing.assert_allclose(activation.derivative(z), numerical, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSS_ROWS)
@given(data=st.data(), shape=shapes_MNI, seed=seeds)
def test_loss_gradient_equals_the_complex_step(name, data, shape, seed):
    """The loss of each member on its own logits, weighted, entry by entry."""
    loss, (n_members, n_samples, _) = LOSS_ROWS[name], shape
    logits = 10.0 * np.random.default_rng(seed).normal(size=(n_members, n_samples))
    y = data.draw(labels_N(n_samples))[np.newaxis]
    y = smooth_labels(y, data.draw(st.floats(0.0, 1.0)))
    weight = data.draw(weights_N(n_samples))
    weight = None if weight is None else weight[np.newaxis]
    gradient = loss.gradient(y, logits, weight, np.empty_like(logits))
    for sample in range(n_samples):
        moved = logits.astype(np.complex128)
        moved[:, sample] += 1j * COMPLEX_STEP
        losses = loss.losses(y, moved) * (1.0 if weight is None else weight)
        numerical = losses.mean(axis=1).imag / COMPLEX_STEP
        np.testing.assert_allclose(gradient[:, sample], numerical, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSS_ROWS)
@given(shape=shapes_MNI, seed=seeds, smoothing=st.floats(0.0, 1.0))
def test_loss_gradient_in_float32_agrees_along_a_random_direction(name, shape, seed, smoothing):
    loss, rng = LOSS_ROWS[name], np.random.default_rng(seed)
    logits = (10.0 * rng.normal(size=shape[:2])).astype(np.float32)
    y = smooth_labels(rng.integers(0, 2, shape[:2]).astype(np.float32), smoothing)
    gradient = loss.gradient(y, logits, None, np.empty_like(logits))
    assert gradient.dtype == np.float32
    direction = rng.normal(size=logits.shape)
    moved = logits + 1j * COMPLEX_STEP * direction
    derivative = loss.losses(y.astype(np.float64), moved).mean(axis=1).imag / COMPLEX_STEP
    from_gradient = (gradient.astype(np.float64) * direction).sum(axis=1)
    np.testing.assert_allclose(from_gradient, derivative, rtol=0, atol=1e-5)


@given(seed=seeds, l2=st.floats(1e-6, 10.0))
def test_l2_gradient_equals_the_complex_step_of_the_penalty(seed, l2):
    """What the optimizer adds to the gradient is the derivative of ``l2 / 2 |w|^2``."""
    rng = np.random.default_rng(seed)
    params, columns = rng.normal(size=(2, 9)), slice(0, 6)
    added = np.zeros_like(params)
    work = Work(np.empty((2, 0)), np.empty_like(params))
    AddL2Gradient(l2, columns).update(added, params, {}, work)
    for column in range(9):
        moved = params.astype(np.complex128)
        moved[:, column] += 1j * COMPLEX_STEP
        penalty = 0.5 * l2 * (moved[:, columns] ** 2).sum(axis=1)
        np.testing.assert_allclose(added[:, column], penalty.imag / COMPLEX_STEP, rtol=1e-12)


def test_l2_gradient_equals_the_central_difference_of_the_reported_penalty():
    """The penalty in the history is the one whose gradient is descended."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=(10, 3)), np.arange(10) % 2.0)
    plan, state = pose_training(rows, members=(0, 1), hidden_layer_sizes=(4,), alpha=3.0)
    trainer, params = Trainer(plan, state, rows), rng.normal(size=state.params.shape)
    added = np.zeros_like(params)
    work = Work(np.empty((2, 0)), np.empty_like(params))
    plan.optimizer.transforms[0].update(added, params, {}, work)
    for column in range(params.shape[1]):
        step = CENTRAL_STEP * (np.arange(params.shape[1]) == column)
        difference = trainer.penalty(params + step) - trainer.penalty(params - step)
        np.testing.assert_allclose(added[:, column], difference / (2 * CENTRAL_STEP), atol=1e-8)


@given(network_and_rows(normalizations=NORMALIZATIONS))
def test_network_gradients_equal_the_complex_step(network_and_rows):
    network, rows = network_and_rows
    report = check_gradients(network, rows.X, rows.y, rows.sample_weight, mode="complex")
    assert report.max_error <= 1e-12, report


@given(network_and_rows(activations=[*ACTIVATION_ROWS, Bump()]))
def test_network_gradients_equal_central_differences(network_and_rows):
    network, rows = network_and_rows
    report = check_gradients(network, rows.X, rows.y, rows.sample_weight, mode="central")
    assert report.max_error <= 1e-6, report


@given(network_and_rows(activations=[*ACTIVATION_ROWS, Bump()]))
def test_network_gradients_in_float32_agree_along_random_directions(network_and_rows):
    network, rows = network_and_rows
    report = check_gradients(network, rows.X, rows.y, rows.sample_weight, mode="directional")
    assert report.max_error <= 1e-3, report


@given(network_and_rows(normalizations=NORMALIZATIONS), seeds)
def test_network_gradient_is_the_derivative_of_the_weighted_cost(network_and_rows, seed):
    """The whole way at once, with a cost that is written out here and a random direction."""
    network, rows = network_and_rows
    rng = np.random.default_rng(seed)
    params, grads = random_params(network, rng, 0.5), nan_grads(network)
    direction = np.zeros_like(params)
    direction[:, network.layout.trainable] = rng.normal(size=grads.shape)
    weight = np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight

    def run(params, grads=None):
        words = RandomWords(RandomStreams.spawn(seed, range(network.n_members)).dropout)
        passage = network.bind(params, len(rows), grads=grads, training=True, words=words)
        x = rows.X[np.newaxis].astype(params.dtype)
        return passage, passage.forward(x, weight[np.newaxis])

    _, logits = run(params + 1j * COMPLEX_STEP * direction)
    cost = (weight * (np.log(1.0 + np.exp(logits)) - rows.y * logits)).mean(axis=1)
    passage, logits = run(params, grads)
    passage.backward(weight * (1.0 / (1.0 + np.exp(-logits)) - rows.y) / len(rows))
    products = grads * direction[:, network.layout.trainable]
    by_backpropagation = products.sum(axis=1)
    scale = max(1.0, np.abs(products).sum())
    np.testing.assert_allclose(
        by_backpropagation, cost.imag / COMPLEX_STEP, rtol=0, atol=1e-12 * scale
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_input_gradients_equal_the_complex_step_of_the_logits(normalization, residual, monkeypatch):
    """Each member's own, as it predicts: no dropout, running statistics; in blocks of rows."""
    network = build_network(
        Architecture(
            4,
            hidden_layer_sizes=(4, 5),
            activation=("tanh", "gelu"),
            dropout=(0.5, 0.2),
            normalization=normalization,
            residual=residual,
            n_members=3,
        )
    )
    rng = np.random.default_rng(0)
    params, X = random_params(network, rng), rng.normal(size=(11, 4))
    before, expected = params.copy(), np.empty((3, 11, 4))
    for feature in range(4):
        moved = X + 1j * COMPLEX_STEP * (np.arange(4) == feature)
        derivative = network.logits(params.astype(np.complex128), moved).imag / COMPLEX_STEP
        expected[:, :, feature] = derivative
    monkeypatch.setattr(_network, "FEWEST_ROWS", 1)
    for block_bytes in (_network.BLOCK_BYTES, 8 * 3 * 5 * 4, 1):  # all rows, four or so, and one
        monkeypatch.setattr(_network, "BLOCK_BYTES", block_bytes)
        logits, grads = network.input_gradients(params, X)
        np.testing.assert_array_equal(logits, network.logits(params, X))
        np.testing.assert_allclose(grads, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(params, before)


def test_input_gradients_of_a_linear_network_are_its_weights():
    network = Network((Dense(1),), 3, 2)
    params = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    logits, grads = network.input_gradients(params, np.ones((5, 3), np.float32))
    assert logits.dtype == grads.dtype == np.float32
    np.testing.assert_array_equal(grads, np.broadcast_to(params[:, np.newaxis, :3], (2, 5, 3)))
    assert network.input_gradients(params, np.empty((0, 3)))[1].shape == (2, 0, 3)


@given(network_and_rows(normalizations=NORMALIZATIONS), seeds)
def test_gradients_of_predictions_equal_the_complex_step(network_and_rows, seed):
    """A pass with gradients that does not train: no dropout, running statistics."""
    network, rows = network_and_rows
    rng = np.random.default_rng(seed)
    params, grads = random_params(network, rng, 0.5), nan_grads(network)
    direction = np.zeros_like(params)
    direction[:, network.layout.trainable] = rng.normal(size=grads.shape)
    passage = network.bind(params, len(rows), grads=grads)
    np.testing.assert_array_equal(
        passage.forward(rows.X[np.newaxis]), network.logits(params, rows.X)
    )
    passage.backward(np.ones((network.n_members, len(rows))))
    logits = network.logits(params + 1j * COMPLEX_STEP * direction, rows.X)
    products = grads * direction[:, network.layout.trainable]
    np.testing.assert_allclose(
        products.sum(axis=1),
        logits.imag.sum(axis=1) / COMPLEX_STEP,
        rtol=0,
        atol=1e-12 * max(1.0, np.abs(products).sum()),
    )


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("n_members", [1, 3])
def test_estimator_gradients_include_penalty_and_class_weights(n_members, class_weight):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(33, 4)), rng.integers(0, 2, 33)
    weight = rng.exponential(size=33) * (rng.random(33) < 0.7)
    estimator = DeepBinaryClassifier(
        (6, 5, 4),
        ["tanh", "gelu", "relu"],
        encoder=None,
        n_members=n_members,
        dropout=[0.0, 0.3, 0.5],
        alpha=50.0,
        class_weight=class_weight,
    )
    assert check_gradients(estimator, X, y, weight, mode="complex").max_error <= 1e-12
    assert check_gradients(estimator, X, y, weight, mode="central").max_error <= 1e-6
    assert check_gradients(estimator, X, y, weight, mode="directional").max_error <= 1e-3
