"""What every layer keeps to, and what dropout does."""

import tracemalloc
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds, shapes_MNI
from tables import LAYER_ROWS, LayerRow, nan_grads, random_arrays, random_params, run_layer

from skdnn import layers
from skdnn._network import Network
from skdnn._random import RandomWords
from skdnn.layers import Dense, Dropout
from skdnn.training.random_streams import RandomStreams

layer_rows = pytest.mark.parametrize("row", LAYER_ROWS.values(), ids=LAYER_ROWS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def run_both_ways(layer, x, params, cotangent, rngs):
    """Return copies of the output, the gradient of the input and those of the parameters."""
    grads = nan_grads(Network((layer,), x.shape[2], len(params)), params.dtype)
    y, slot = run_layer(layer, x, params, training=True, grads=grads, rngs=rngs)
    y = y.copy()
    return y, layer.backward(cotangent.copy(), slot, need_grad_x=True).copy(), grads


def test_table_covers_every_layer():
    exported = [getattr(layers, name) for name in layers.__all__]
    is_layer = [hasattr(item, "backward") and item is not layers.Layer for item in exported]
    known = {item for item, known in zip(exported, is_layer, strict=True) if known}
    assert known == {type(row.make_layer(3)) for row in LAYER_ROWS.values()}


@layer_rows
def test_layer_is_a_frozen_description(row):
    layer = row.make_layer(3)
    for field in fields(layer):
        with pytest.raises(FrozenInstanceError):
            setattr(layer, field.name, None)


@layer_rows
@given(shape=shapes_MNI, seed=seeds)
def test_layer_keeps_the_shapes_of_its_plan(row, shape, seed):
    n_members, n_samples, n_in = shape
    x, params, cotangent = random_arrays(row, *shape, seed)
    layer = row.make_layer(x.shape[2])
    plan, rngs = layer.plan(n_in), RandomStreams.spawn(seed, range(n_members)).dropout
    y, grad_x, grads = run_both_ways(layer, x, params, cotangent, rngs)
    assert y.shape == (n_members, n_samples, plan.n_out)
    assert grad_x.shape == x.shape
    specs = [spec for node in Network((layer,), n_in).all_nodes for spec in node.plan.params]
    assert params.shape[1] == sum(np.prod(spec.shape) for spec in specs)
    assert np.isfinite(grads).all()


@layer_rows
@pytest.mark.parametrize("is_training", [True, False])
@given(shape=shapes_MNI, seed=seeds)
def test_layer_leaves_its_input_and_parameters_as_they_are(row, is_training, shape, seed):
    """Only statistics move, and only in training."""
    x, params, cotangent = random_arrays(row, *shape, seed)
    layer = row.make_layer(x.shape[2])
    x_before, params_before = x.copy(), params.copy()
    if is_training:
        run_both_ways(layer, x, params, cotangent, None)
    else:
        run_layer(layer, x, params)
    np.testing.assert_array_equal(x, x_before)
    fixed = Network((layer,), shape[2]).layout.trainable if is_training else slice(None)
    np.testing.assert_array_equal(params[:, fixed], params_before[:, fixed])


@layer_rows
@given(shape=shapes_MNI, seed=seeds)
def test_layer_predicts_without_random_numbers(row, shape, seed):
    """Two predictions are equal to the bit, and no stream has moved."""
    x, params, _ = random_arrays(row, *shape, seed)
    layer = row.make_layer(x.shape[2])
    rngs = RandomStreams.spawn(seed, range(len(params))).dropout
    first, _ = run_layer(layer, x, params, rngs=rngs)
    second, _ = run_layer(layer, x, params, rngs=[])
    np.testing.assert_array_equal(first, second)
    untouched = RandomStreams.spawn(seed, range(len(params))).dropout
    assert [rng.random() for rng in rngs] == [rng.random() for rng in untouched]


@layer_rows
@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_layer_keeps_the_dtype(row, dtype, shape, seed):
    x, params, cotangent = (a.astype(dtype) for a in random_arrays(row, *shape, seed))
    layer = row.make_layer(x.shape[2])
    outcomes = run_both_ways(layer, x, params, cotangent, None)
    assert [array.dtype for array in outcomes] == [dtype] * 3
    assert run_layer(layer, x, params)[0].dtype == dtype


@layer_rows
@given(shape=shapes_MNI, seed=seeds)
def test_layer_runs_three_members_as_it_runs_each_alone(row, shape, seed):
    """To the last bit, forward and backward, each member with its own stream."""
    _, n_samples, n_in = shape
    x, params, cotangent = random_arrays(row, 3, n_samples, n_in, seed)
    layer = row.make_layer(x.shape[2])
    params_together = params.copy()
    together = run_both_ways(
        layer, x, params_together, cotangent, RandomStreams.spawn(seed, range(3)).dropout
    )
    for k in range(3):
        own = slice(k, k + 1)
        params_alone = params[own].copy()
        alone = run_both_ways(
            layer,
            x[own].copy(),
            params_alone,
            cotangent[own].copy(),
            RandomStreams.spawn(seed, [k]).dropout,
        )
        np.testing.assert_array_equal(params_together[own], params_alone)  # statistics have moved
        for of_all, of_one in zip(together, alone, strict=True):
            np.testing.assert_array_equal(of_all[own], of_one)


@layer_rows
@given(shape=shapes_MNI, seed=seeds)
def test_layer_broadcasts_one_input_over_all_members(row, shape, seed):
    """A first layer gets rows that all members share, and treats them as copies of their own."""
    x, params, cotangent = random_arrays(row, *shape, seed)
    layer = row.make_layer(x.shape[2])
    shared = x[:1]
    copies = np.repeat(shared, len(params), axis=0)
    y, grad_x, grads = run_both_ways(layer, shared, params, cotangent, None)
    expected_y, expected_grad_x, expected_grads = run_both_ways(
        layer, copies, params, cotangent, None
    )
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(grad_x, expected_grad_x)
    np.testing.assert_array_equal(grads, expected_grads)


def bytes_allocated_by_one_pass(layer, n_samples):
    """Return the peak of what a forward and a backward pass allocate, once they are warm."""
    network = Network((layer,), 8, 2)
    params, grads = random_params(network, np.random.default_rng(0)), nan_grads(network)
    words = RandomWords(RandomStreams.spawn(0, range(2)).dropout)
    passage = network.bind(
        params, n_samples, grads=grads, training=True, need_grad_x=True, words=words
    )
    [(_, slot)] = passage._steps
    slot.batch.sample_weight = np.ones((2, n_samples))
    x, grad_y = np.ones((2, n_samples, 8)), np.ones((2, n_samples, network.nodes[0].plan.n_out))
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        layer.forward(x, slot)
        layer.backward(grad_y, slot, need_grad_x=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return peaks[-1]


FIXED_BUFFERS = {name: row for name, row in LAYER_ROWS.items() if not row.allocates}


@pytest.mark.parametrize("row", FIXED_BUFFERS.values(), ids=FIXED_BUFFERS)
def test_layer_allocates_nothing_that_grows_with_the_batch(row):
    """A large batch needs no more than NumPy's own buffers, of 8192 numbers for each operand.

    The rest is for arrays of the size of some parameters, and for views.
    """
    n_samples = 32768
    numpy_buffers = 3 * 8 * np.getbufsize()
    smallest_batch_array = 8 * n_samples
    peak = bytes_allocated_by_one_pass(row.make_layer(8), n_samples)
    assert peak <= numpy_buffers + 16384 < smallest_batch_array


@dtypes
@pytest.mark.parametrize("n_units", [1, 3])
def test_dense_computes_xw_plus_b(n_units, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 4)).astype(dtype)
    params = rng.normal(size=(2, 5 * n_units)).astype(dtype)
    y, slot = run_layer(Dense(n_units), x, params)
    for k in range(2):
        W = params[k, : 4 * n_units].reshape(4, n_units)
        b = params[k, 4 * n_units :]
        np.testing.assert_allclose(y[k], x[k] @ W + b, rtol=100 * np.finfo(dtype).eps)
    assert slot.params.W.shape == (2, 4, n_units)


def test_dense_decays_weights_and_not_biases():
    W, b = Dense(3).plan(4).params
    assert (W.name, W.shape, W.weight_decay) == ("W", (4, 3), True)
    assert (b.name, b.shape, b.weight_decay) == ("b", (1, 3), False)


def train_dropout(rate, *, n_members=2, n_samples=4000, n_units=25, dtype=np.float64, seed=0):
    """Return what dropout makes of ones in training, and the gradient of their sum."""
    x = np.ones((n_members, n_samples, n_units), dtype)
    rngs = RandomStreams.spawn(seed, range(n_members)).dropout
    y, grad_x, _ = run_both_ways(Dropout(rate), x, np.empty((n_members, 0), dtype), x, rngs)
    return y, grad_x


@dtypes
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_dropout_drops_the_given_share_of_units(rate, dtype):
    """Within five standard deviations of the binomial distribution."""
    y, _ = train_dropout(rate, dtype=dtype)
    assert (y == 0).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / y.size))


@dtypes
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_dropout_scales_survivors_up(rate, dtype):
    """By 1 / (1 - p), so that the mean stays what it was, with p next to the rate in 16 bits."""
    y, _ = train_dropout(rate, dtype=dtype)
    p = round(rate * 2**16) / 2**16
    np.testing.assert_allclose(y[y != 0], 1.0 / (1.0 - p), rtol=1e-6)
    bound = 5 * np.sqrt(rate / (1 - rate) / y.size)
    assert y.mean(dtype=np.float64) == pytest.approx(1.0, abs=bound)


def test_dropout_at_the_greatest_rate_lets_something_through():
    y, _ = train_dropout(np.nextafter(1.0, 0.0), n_members=1, n_samples=40_000)
    assert 0 < (y != 0).sum() < 100


def test_dropout_sends_back_what_it_let_through():
    y, grad_x = train_dropout(0.3)
    np.testing.assert_array_equal(grad_x, y)


def test_dropout_draws_anew_in_every_pass():
    x, params = np.ones((1, 50, 20)), np.empty((1, 0))
    rngs = RandomStreams.spawn(0, [0]).dropout
    first, second = (run_layer(Dropout(0.5), x, params, training=True, rngs=rngs) for _ in "12")
    assert 0.4 < (first[0] != second[0]).mean() < 0.6


def test_dropout_gives_each_member_its_own_mask():
    y, _ = train_dropout(0.5, n_members=3)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert (y[one] == y[other]).mean() == pytest.approx(0.5, abs=0.02)


@given(rate=st.floats(0.0, 0.99), shape=shapes_MNI, seed=seeds)
def test_dropout_does_nothing_in_prediction(rate, shape, seed):
    x, params, _ = random_arrays(LayerRow(lambda n_in: Dropout(rate)), *shape, seed)
    y, _ = run_layer(Dropout(rate), x, params)
    np.testing.assert_array_equal(y, x)


@given(shape=shapes_MNI, seed=seeds)
def test_dropout_rate_zero_does_nothing_in_training(shape, seed):
    x, params, _ = random_arrays(LAYER_ROWS["dropout_rate_zero"], *shape, seed)
    y, _ = run_layer(Dropout(0.0), x, params, training=True)
    np.testing.assert_array_equal(y, x)
