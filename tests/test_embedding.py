"""Embeddings of numbers and of categories: the formulas, first values, and odd codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds, shapes_MNI
from tables import categories, codes, nan_grads, random_params, run_layer

from skdnn._network import Network
from skdnn.layers import CategoricalEmbedding, Dense, NumericEmbedding
from skdnn.training.random_streams import RandomStreams

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def views(layer, n_in, params):
    """Return the parameters of a layer that is alone in its network, by their short names."""
    layout = Network((layer,), n_in, len(params)).layout
    return {name.partition(".")[2]: layout.view(params, name) for name in layout.entries}


# Numeric.

kinds = st.sampled_from([("waves",), ("ramps",), ("waves", "ramps"), ("ramps", "waves")])


@dtypes
@given(
    shape=shapes_MNI,
    seed=seeds,
    n_functions=st.integers(1, 4),
    n_units=st.integers(1, 3),
    kinds=kinds,
)
def test_numeric_embedding_computes_its_formula(dtype, shape, seed, n_functions, n_units, kinds):
    """Member by member, feature by feature; the features themselves come last."""
    layer, rng = NumericEmbedding(n_functions, n_units, kinds), np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(dtype)
    params = random_params(Network((layer,), shape[2], shape[0]), rng).astype(dtype)
    y, _ = run_layer(layer, x, params)
    w, b, V, c = (views(layer, shape[2], params)[name] for name in "wbVc")
    assert y.shape == (*shape[:2], shape[2] * (n_units + 1))
    for k in range(shape[0]):
        for i in range(shape[2]):
            u = x[k, :, i, np.newaxis] * w[k, i]
            is_ramp = kinds[k % len(kinds)] == "ramps"
            C = np.clip(u + b[k, i], 0, 1) if is_ramp else np.cos(2 * np.pi * u + b[k, i])
            Z = C @ V[k, i].T + c[k, i]
            part = y[k, :, i * n_units : (i + 1) * n_units]
            np.testing.assert_allclose(part, Z, rtol=0, atol=1e3 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(y[:, :, shape[2] * n_units :], x)


def test_waves_of_whole_frequencies_have_period_one():
    """What goes on is the same one unit further, but for the feature itself."""
    layer, rng = NumericEmbedding(4, 3), np.random.default_rng(0)
    x, params = rng.normal(size=(2, 9, 2)), random_params(Network((layer,), 2, 2), rng)
    views(layer, 2, params)["w"][...] = rng.integers(-3, 4, (2, 2, 4))
    y, one_further = (run_layer(layer, x + shift, params)[0].copy() for shift in (0.0, 1.0))
    np.testing.assert_allclose(one_further[..., :6], y[..., :6], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(one_further[..., 6:], x + 1.0)
    assert np.abs(run_layer(layer, x + 0.5, params)[0] - y)[..., :6].max() > 0.1


def test_ramps_begin_side_by_side():
    """With weights of one their sum rises in a straight line from -3 to 3, and is level outside."""
    layer = NumericEmbedding(6, 1, ("ramps",))
    params = Network((layer,), 1).init_params(RandomStreams.spawn(0, [0]).initialization)
    of_layer = views(layer, 1, params)
    of_layer["V"][...], of_layer["c"][...] = 1.0, 0.0
    x = np.array([-9.0, -3.0, -2.5, -1.0, 0.0, 0.25, 2.0, 3.0, 9.0])
    y, _ = run_layer(layer, x[np.newaxis, :, np.newaxis], params)
    np.testing.assert_allclose(y[0, :, 0], np.clip(x, -3, 3) + 3.0, rtol=0, atol=1e-12)


def test_waves_begin_as_their_paper_says():
    layer = NumericEmbedding(16, 50)
    network = Network((layer,), 40, 2)
    params = network.init_params(RandomStreams.spawn(0, range(2)).initialization)
    w, b, V, c = (views(layer, 40, params)[name] for name in "wbVc")
    assert w.std() == pytest.approx(0.1, rel=0.05)
    assert 0.99 * np.pi < np.abs(b).max() <= np.pi
    assert 0.99 / 4 < np.abs(V).max() <= 1 / 4
    assert 0.98 / 4 < np.abs(c).max() <= 1 / 4
    for values in (w, b, V, c):
        assert abs(values.mean()) < 0.1 * values.std()
        assert (values[0] != values[1]).all()


def test_members_take_turns_in_what_they_see():
    layer = NumericEmbedding(5, 2, ("waves", "ramps"))
    network = Network((layer,), 3, 4)
    params = network.init_params(RandomStreams.spawn(0, range(4)).initialization)
    of_layer = views(layer, 3, params)
    assert of_layer["is_ramp"].ravel().tolist() == [0.0, 1.0, 0.0, 1.0]
    w = of_layer["w"]
    assert (w[[1, 3]] == 5 / 6).all()
    assert (w[0] != w[2]).all()
    before = params.copy()
    network.reset_statistics(params)
    np.testing.assert_array_equal(params, before)


@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_members_taken_out_see_what_they_see_among_all(n_kinds):
    """One of them, neighbours, and equally spaced ones, as threads and folds take them."""
    layer = NumericEmbedding(4, 2, ("waves", "ramps", "ramps")[:n_kinds])
    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(1, 7, 3)), random_params(Network((layer,), 3, 12), rng)
    whole, _ = run_layer(layer, x, params)
    whole = whole.copy()
    for first in range(12):
        for spacing in (1, 2, 3, 4, 5, 12):
            members = slice(first, None, spacing)
            part, _ = run_layer(layer, x, params[members])
            np.testing.assert_array_equal(part, whole[members])


def test_numeric_embedding_decays_the_linear_step_and_nothing_else():
    specs = {spec.name: spec for spec in NumericEmbedding(lr_scale=0.25).plan(3).params}
    assert {name for name, spec in specs.items() if spec.weight_decay} == {"V"}
    assert {name: specs[name].lr_scale for name in "wbVc"} == {"w": 0.25, "b": 0.25, "V": 1, "c": 1}
    assert {name for name, spec in specs.items() if not spec.trainable} == {"is_ramp"}


def test_waves_draw_frequencies_as_they_are_told():
    layer = NumericEmbedding(3, frequency_init=lambda rng, shape: np.full(shape, 7.0))
    params = Network((layer,), 2).init_params([np.random.default_rng(0)])
    assert (views(layer, 2, params)["w"] == 7.0).all()


# Categorical.


def one_hot(x, size):
    """Return the codes of one column (n_members, n_samples) as columns of zeros and ones."""
    return (x[..., np.newaxis] == np.arange(size)).astype(x.dtype)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_categorical_embedding_is_a_linear_step_over_one_hot_columns(dtype, shape, seed):
    """Forward and backward, with levels that occur often, once and never."""
    layer, rng = categories(shape[2]), np.random.default_rng(seed)
    network = Network((layer,), shape[2], shape[0])
    x, params = codes(rng, shape).astype(dtype), random_params(network, rng).astype(dtype)
    grads = nan_grads(network, dtype)
    y, slot = run_layer(layer, x, params, training=True, grads=grads)
    cotangent = rng.normal(size=y.shape).astype(dtype)
    grad_x = layer.backward(cotangent.copy(), slot, need_grad_x=True)
    tables, grad_tables = (views(layer, shape[2], flat) for flat in (params, grads))
    start = 0
    for j in range(shape[2]):
        E, columns = tables[f"E_{j + 1}"], one_hot(x[:, :, j], layer.sizes[j])
        part = slice(start, start + layer.n_units[j])
        np.testing.assert_array_equal(y[:, :, part], columns @ E)
        expected = columns.swapaxes(1, 2) @ cotangent[:, :, part]
        tolerance = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(grad_tables[f"E_{j + 1}"], expected, rtol=0, atol=tolerance)
        start = part.stop
    assert start == y.shape[2]
    np.testing.assert_array_equal(grad_x, np.zeros_like(x))


def test_categorical_embedding_forgets_the_last_batch():
    """The matrices that sum the gradient are kept; the places of their ones are not."""
    layer, rng = CategoricalEmbedding((5, 3), (2, 2)), np.random.default_rng(0)
    network = Network((layer,), 2, 2)
    params = random_params(network, rng)
    kept, anew = nan_grads(network), nan_grads(network)
    passage = network.bind(params, 6, grads=kept, training=True)
    [(_, slot)] = passage._steps
    for _ in range(3):
        x, cotangent = rng.integers(0, 3, (2, 6, 2)).astype(float), rng.normal(size=(2, 6, 4))
        layer.forward(x, slot)
        layer.backward(cotangent.copy(), slot, need_grad_x=False)
        _, new_slot = run_layer(layer, x, params, training=True, grads=anew)
        layer.backward(cotangent.copy(), new_slot, need_grad_x=False)
        np.testing.assert_array_equal(kept, anew)


def test_categorical_embedding_keeps_apart_the_members_of_a_large_table():
    layer, rng = CategoricalEmbedding((10_000,), (3,)), np.random.default_rng(0)
    network = Network((layer,), 1, 3)
    params, grads = random_params(network, rng), nan_grads(network)
    x = rng.integers(9_000, 10_000, (3, 50, 1)).astype(np.float32)
    y, slot = run_layer(layer, x, params, training=True, grads=grads)
    layer.backward(np.ones_like(y), slot, need_grad_x=False)
    E, grad_E = (views(layer, 1, flat)["E_1"] for flat in (params, grads))
    for k in range(3):
        index = x[k, :, 0].astype(int)
        np.testing.assert_array_equal(y[k], E[k, index])
        counts = np.bincount(index, minlength=10_000)
        np.testing.assert_array_equal(grad_E[k], np.repeat(counts[:, np.newaxis], 3, axis=1))


@pytest.mark.parametrize(("code", "level"), [(-1.0, 0), (-1e9, 0), (4.0, 3), (1e9, 3), (2.9, 2)])
def test_categorical_embedding_takes_codes_outside_for_the_nearest_level(code, level):
    """Forward and backward alike: nothing is read or written beside the table."""
    layer, x = CategoricalEmbedding((4,), (2,)), np.array([[[1.0], [code]]])
    params, grads = np.arange(8.0)[np.newaxis], np.full((1, 8), np.nan)
    y, slot = run_layer(layer, x, params, training=True, grads=grads)
    np.testing.assert_array_equal(y[0, 1], [2 * level, 2 * level + 1])
    layer.backward(np.array([[[0.0, 0.0], [5.0, 7.0]]]), slot, need_grad_x=False)
    expected = np.zeros((4, 2))
    expected[level] = [5.0, 7.0]
    np.testing.assert_array_equal(grads.reshape(4, 2), expected)


def test_categorical_embedding_begins_with_numbers_of_variance_one_that_decay():
    layer = CategoricalEmbedding((300, 40), (10, 5), lr_scale=0.5)
    params = Network((layer,), 2, 2).init_params(RandomStreams.spawn(0, range(2)).initialization)
    assert params.mean() == pytest.approx(0.0, abs=5 / np.sqrt(params.size))
    assert params.var() == pytest.approx(1.0, rel=5 * np.sqrt(2 / params.size))
    assert (params[0] != params[1]).all()
    layout = Network((layer, Dense(1)), 2).layout
    assert layout.lr_scales[0] == (slice(0, 3200), 0.5)
    assert layout.decayed == slice(0, 3215)


@pytest.mark.parametrize(
    ("sizes", "n_units", "message"),
    [
        ((3,), (2,), r"each of its n_in=2 columns, got sizes=\(3,\) and n_units=\(2,\)"),
        ((3, 4), (2,), r"one size and one number of units .* make them equally long"),
        ((3, 4, 5), (2, 2, 2), r"n_in=2 columns"),
        ((3, 0), (2, 2), r"must be at least 1, got sizes=\(3, 0\)"),
        ((3, 4), (0, 2), r"must be at least 1, .* n_units=\(0, 2\); leave"),
    ],
)
def test_categorical_embedding_refuses_what_does_not_fit_its_columns(sizes, n_units, message):
    with pytest.raises(ValueError, match=message):
        CategoricalEmbedding(sizes, n_units).plan(2)
