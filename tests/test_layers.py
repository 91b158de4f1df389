"""What each layer computes, and what a network of layers is called and consists of.

What layers have in common with all formulas, their gradients above all, is in `test_parts`.
"""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds, shapes_NI
from tables import (
    SOLVER_ROWS,
    Bump,
    build_optimizer,
    categories,
    codes,
    draw_first,
    draw_params,
    logits_of,
    make_context,
    numbers_and_categories,
    numbers_and_codes,
    random_params,
    run_traced,
    take_steps,
)

from skdnn import check_gradients
from skdnn.nn import (
    Activation,
    BatchNorm,
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Dense,
    Dropout,
    FeatureScaling,
    LayerNorm,
    Network,
    NumericEmbedding,
    Params,
    Residual,
    Sequential,
)
from skdnn.nn.activations import Tanh
from skdnn.nn.network import Layout

TANH = Activation(Tanh())
PREDICTION = make_context()
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def run_layer(layer, x, params, *, grad_y=None, ctx=PREDICTION):
    """Return the output for parameters by name, and the gradients of input and parameters."""
    p = Params(params)
    y = layer.forward(x, p, ctx)
    return y, *layer.backward(np.ones_like(y) if grad_y is None else grad_y, x, p, ctx)


def first_params(layer, n_in, seed=0):
    """Return first values by name."""
    rng = np.random.default_rng(seed)
    specs = Layout(layer, n_in).specs
    return {name: np.array(spec.init(rng, spec.shape)) for name, spec in specs.items()}


# Dense and scales of the inputs.


@dtypes
@pytest.mark.parametrize("n_units", [1, 3])
def test_dense_computes_xw_plus_b(n_units, dtype):
    rng = np.random.default_rng(0)
    x, W, b = (rng.normal(size=s).astype(dtype) for s in ((5, 4), (4, n_units), (n_units,)))
    y, *_ = run_layer(Dense(n_units), x, {"W": W, "b": b})
    np.testing.assert_allclose(y, x @ W + b, rtol=100 * np.finfo(dtype).eps)


def test_feature_scaling_multiplies_each_feature_by_a_factor_that_begins_at_one():
    x, layer = np.random.default_rng(0).normal(size=(5, 3)), FeatureScaling()
    np.testing.assert_array_equal(run_layer(layer, x, first_params(layer, 3))[0], x)
    s = np.array([1.0, -2.0, 0.0])
    y, grad_x, grads = run_layer(layer, x, {"s": s})
    np.testing.assert_array_equal(y, x * s)
    np.testing.assert_array_equal(grad_x, np.broadcast_to(s, x.shape))
    np.testing.assert_allclose(grads["s"], x.sum(axis=0), rtol=1e-12)


def test_feature_scaling_has_a_rate_of_its_own_and_does_not_decay():
    layout = Network((FeatureScaling(4.0), Dense(1)), 3).layout
    assert layout.n_decayed == 3  # dense_1.W
    assert layout.lr_factors == ((3, 1.0), (1, 1.0), (3, 4.0))
    assert FeatureScaling().lr_scale == 6.0


def test_weights_of_any_rate_decay_in_one_range_and_biases_in_none():
    network = Network((Dense(4, lr_scale=0.1, bias_lr_scale=6.0), TANH, Dense(1, lr_scale=3.0)), 3)
    layout = network.layout
    decayed = [name for name, columns in layout.columns.items() if columns.stop <= layout.n_decayed]
    assert decayed == ["dense_1.W", "dense_2.W"]
    assert layout.n_decayed == 16
    assert [factor for _, factor in layout.lr_factors] == [0.1, 3.0, 1.0, 6.0]


@pytest.mark.parametrize("name", SOLVER_ROWS)
def test_layers_with_a_tenth_of_the_rate_take_a_tenth_of_the_step(name):
    """From the layer's hyperparameter through layout and optimizer to the update."""
    factors = {"featurescaling_1.s": 6.0, "dense_1.W": 0.1, "dense_1.b": 0.5}
    plain = Network((FeatureScaling(1.0), Dense(4), TANH, Dense(1)), 3)
    scaled = Network(
        (FeatureScaling(6.0), Dense(4, lr_scale=0.1, bias_lr_scale=0.5), TANH, Dense(1)), 3
    )
    rng = np.random.default_rng(1)
    X, y, first = rng.normal(size=(20, 3)), np.arange(20) % 2, random_params(plain, rng)
    steps = []
    for network in (plain, scaled):
        layout, params = network.layout, np.empty_like(first)
        for parameter in layout.specs:  # the same values, wherever they stand
            layout.view(params, parameter)[...] = plain.layout.view(first, parameter)
        optimizer = build_optimizer(SOLVER_ROWS[name], layout)
        after = take_steps(network, params, X, y, optimizer=optimizer, n_steps=1)["params"]
        steps.append({n: layout.view(after - params, n) for n in layout.specs})
    for parameter, step in steps[1].items():
        assert np.abs(step).max() > 0.0
        expected = factors.get(parameter, 1.0) * steps[0][parameter]
        np.testing.assert_allclose(step, expected, rtol=1e-9, atol=1e-12)


# Dropout.


def train_dropout(rate, n_samples=4000, n_units=25, dtype=np.float64, seed=0):
    """Return what dropout makes of ones in training, and the gradient of their sum."""
    x = np.ones((n_samples, n_units), dtype)
    ctx = make_context(True, seed=seed, n_bits=x.size)
    y, grad_x, _ = run_layer(Dropout(rate), x, {}, ctx=ctx)
    return y, grad_x


@dtypes
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_dropout_drops_the_given_share_and_scales_survivors_up(rate, dtype):
    """By 1 / (1 - p), so that the mean stays what it was, with p next to the rate in 16 bits.

    Within five standard deviations of the binomial distribution.
    """
    y, _ = train_dropout(rate, dtype=dtype)
    assert (y == 0).mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / y.size))
    p = round(rate * 2**16) / 2**16
    np.testing.assert_allclose(y[y != 0], 1.0 / (1.0 - p), rtol=1e-6)
    bound = 5 * np.sqrt(rate / (1 - rate) / y.size)
    assert y.mean(dtype=np.float64) == pytest.approx(1.0, abs=bound)


def test_dropout_at_the_greatest_rate_lets_something_through():
    y, _ = train_dropout(np.nextafter(1.0, 0.0), n_samples=40_000)
    assert 0 < (y != 0).sum() < 100


def test_dropout_sends_back_what_it_let_through_and_draws_anew_in_other_steps():
    y, grad_x = train_dropout(0.5)
    np.testing.assert_array_equal(grad_x, y)
    other, _ = train_dropout(0.5, seed=1)
    assert (other == y).mean() == pytest.approx(0.5, abs=0.02)


def test_dropout_layers_of_a_network_draw_different_masks():
    x, layers = np.ones((50, 20)), Sequential((Dropout(0.5), Dropout(0.5)))
    y, grad_x, _ = run_layer(layers, x, {}, ctx=make_context(True))
    np.testing.assert_array_equal(grad_x, y)
    assert (y != 0).mean() == pytest.approx(0.25, abs=0.08)


@given(rate=st.floats(0.0, 0.99), shape=shapes_NI, seed=seeds)
def test_dropout_does_nothing_in_prediction_and_at_a_rate_of_zero(rate, shape, seed):
    x = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_array_equal(run_layer(Dropout(rate), x, {})[0], x)
    np.testing.assert_array_equal(run_layer(Dropout(0.0), x, {}, ctx=make_context(True))[0], x)


def test_dropout_without_random_numbers_is_an_error():
    layer, x = Dropout(0.5), np.ones((3, 2))
    ctx = type(PREDICTION)(training=True)
    with pytest.raises(ValueError, match="needs random bits"):
        layer.forward(x, Params({}), ctx)


# Residual layers.


def test_residual_adds_its_layers_to_the_input():
    rng, layer = np.random.default_rng(0), Residual((Dense(5), TANH, Dense(3)))
    x, params = rng.normal(size=(7, 3)), draw_params(layer, 3, rng)
    assert list(params) == ["dense_1.W", "dense_1.b", "dense_2.W", "dense_2.b"]
    W, b, V, c = params.values()
    y, *_ = run_layer(layer, x, params)
    np.testing.assert_allclose(y, x + np.tanh(x @ W + b) @ V + c, rtol=0, atol=1e-12)


def test_gradient_passes_a_residual_whose_layers_answer_nothing():
    """What makes deep networks trainable: with weights of zero, ``grad_x`` is ``grad_y``."""
    layer, x = Residual((Dense(4), TANH, Dense(3))), np.ones((7, 3))
    params = {name: np.zeros(spec.shape) for name, spec in Layout(layer, 3).specs.items()}
    grad_y = np.random.default_rng(0).normal(size=x.shape)
    np.testing.assert_array_equal(run_layer(layer, x, params, grad_y=grad_y)[1], grad_y)


def test_residual_without_layers_doubles_its_input():
    x = np.ones((2, 3))
    y, grad_x, _ = run_layer(Residual(()), x, {})
    np.testing.assert_array_equal(y, 2.0 * x)
    np.testing.assert_array_equal(grad_x, 2.0 * x)


def test_residual_refuses_layers_that_change_the_width():
    network = Network((Dense(4), Residual((Dense(6), TANH)), Dense(1)), 3)
    with pytest.raises(ValueError, match=r"Residual must end with as many .*, 4, got 6; change"):
        _ = network.layout


def test_layers_used_twice_have_parameters_of_their_own():
    """A layer is a description; what stands in two places trains in two places."""
    block = Residual((Dense(3), TANH, Dropout(0.2)))
    network = Network((block, block, Dense(1)), 3, 2)
    X = np.random.default_rng(0).normal(size=(8, 3))
    report = check_gradients(network, X, np.arange(8) % 2)
    assert report.passed, report
    assert {"residual_1.dense_1.W", "residual_2.dense_1.W"} <= set(report.gradients)
    assert report.gradients["residual_1.dense_1.W"] != report.gradients["residual_2.dense_1.W"]


def test_gradient_check_finds_a_wrong_derivative_within_a_residual():
    class Wrong(Bump):
        def derivative(self, z):
            return 1.1 * super().derivative(z)

    block = Residual((Dense(4), Activation(Wrong())))
    network = Network((Dense(4), TANH, block, Dense(1)), 4)
    X = np.random.default_rng(0).normal(size=(8, 4))
    report = check_gradients(network, X, np.arange(8) % 2)
    assert report.mode == "central"
    [error] = [e for name, e in report.errors.items() if name.startswith("derivative of Wrong")]
    assert error > report.tolerance
    assert report.errors["residual_1.dense_1.W"] > report.tolerance


# Concatenate.


def test_concatenate_sends_each_range_of_columns_through_its_own_layers():
    layer = Concatenate((Branch(2, (Dense(3), TANH)), Branch(1), Branch(3, (Dense(2),))))
    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(7, 6)), draw_params(layer, 6, rng)
    y, *_ = run_layer(layer, x, params)
    W, b, V, c = params.values()
    expected = (np.tanh(x[:, :2] @ W + b), x[:, 2:3], x[:, 3:] @ V + c)
    np.testing.assert_allclose(y, np.concatenate(expected, axis=1), rtol=0, atol=1e-12)


def test_concatenate_of_empty_branches_passes_everything_on():
    x, grad_y = np.random.default_rng(0).normal(size=(2, 4, 3))
    y, grad_x, _ = run_layer(Concatenate((Branch(2), Branch(1))), x, {}, grad_y=grad_y)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(grad_x, grad_y)


@pytest.mark.parametrize("n_columns", [(2, 2), (2, 4), (5, 0), (6, -1), ()])
def test_concatenate_refuses_branches_that_do_not_fit_the_columns(n_columns):
    layer = Concatenate(tuple(Branch(n, (Dense(2),)) for n in n_columns))
    with pytest.raises(ValueError, match=r"one column each and all 5 together, got n_columns="):
        layer.n_out(5)


def test_layers_within_layers_are_named_and_counted_where_they_are():
    inner = Concatenate((Branch(1, (Dense(2),)), Branch(1, (Dense(2), Dense(2)))))
    layer = Concatenate((Branch(2, (Dense(2), BatchNorm())), Branch(2, (inner,))))
    block = Residual((Dense(4), Residual((TANH,)), Residual((TANH,))))
    paths = [path for path, *_ in Sequential((layer, Dense(4), block, Dense(1))).walk(4)]
    names = [path.rstrip(".") for path in paths]
    assert [name for name in names[1:] if not name.endswith(("branch_1", "branch_2"))] == [
        "concatenate_1",
        "concatenate_1.branch_1.dense_1",
        "concatenate_1.branch_1.batchnorm_1",
        "concatenate_1.branch_2.concatenate_1",
        "concatenate_1.branch_2.concatenate_1.branch_1.dense_1",
        "concatenate_1.branch_2.concatenate_1.branch_2.dense_1",
        "concatenate_1.branch_2.concatenate_1.branch_2.dense_2",
        "dense_1",
        "residual_1",
        "residual_1.dense_1",
        "residual_1.residual_1",
        "residual_1.residual_1.activation_1",
        "residual_1.residual_2",
        "residual_1.residual_2.activation_1",
        "dense_2",
    ]


def table_network(n_members=2):
    """Return a network as tables want it: numbers twice over, categories, two dense layers."""
    periodic = (FeatureScaling(), NumericEmbedding(3, 2))
    lookup = (CategoricalEmbedding((4, 3), (2, 3)), FeatureScaling())
    layer = Concatenate((Branch(2, periodic), Branch(1), Branch(2, lookup)))
    return Network((layer, Dense(5), BatchNorm(), TANH, Dense(1)), 5, n_members)


def table_rows(n_samples, seed=0):
    rng = np.random.default_rng(seed)
    numbers, levels = rng.normal(size=(n_samples, 3)), rng.integers(0, (4, 3), (n_samples, 2))
    return np.hstack([numbers, levels]), rng.integers(0, 2, n_samples)


@pytest.mark.parametrize("mode", ["complex", "central", "directional"])
def test_gradients_of_a_network_for_tables_are_right(mode):
    X, y = table_rows(19)
    report = check_gradients(table_network(), X, y, np.linspace(0.0, 2.0, 19), mode=mode)
    assert report.passed, report
    assert any(name.endswith("categoricalembedding_1.E_2") for name in report.errors)


def test_network_for_tables_learns_a_stripe_and_a_pair_of_categories():
    """Neither is linear in its column; rates of their own and decay take part."""
    X, _ = table_rows(400)
    y = (np.cos(4.0 * X[:, 0]) > 0) ^ (X[:, 3] % 2 == 1)
    network, layout = table_network(), table_network().layout
    optimizer = build_optimizer(SOLVER_ROWS["adamw"], layout, weight_decay=0.01)
    settings = {"optimizer": optimizer, "batch_size": 400, "n_steps": 300, "members": (0, 1)}
    trained = take_steps(network, draw_first(network).astype(np.float32), X, y, **settings)
    params = np.hstack([trained["params"], trained["statistics"]])
    accuracy = ((logits_of(network, params, X) > 0) == y).mean(axis=1)
    assert (accuracy > 0.9).all(), accuracy


def test_rows_of_the_table_reach_every_kind_of_branch():
    """What `numbers_and_categories` makes for six columns has all that a table has."""
    layer = numbers_and_categories(6)
    assert [branch.n_columns for branch in layer.branches] == [2, 2, 2]
    x = numbers_and_codes(np.random.default_rng(0), (50, 6))
    assert set(np.unique(x[:, 4:])) == {0.0, 1.0, 2.0, 3.0}


# Normalisation.

EPSILON = 1e-3
N_UNITS = 3
NORMS = [BatchNorm(EPSILON), LayerNorm(EPSILON)]


def draw_norm(layer, n_samples, seed=0):
    """Return rows that are far from mean 0 and variance 1, parameters, and a gradient."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (n_samples, N_UNITS))
    return x, draw_params(layer, N_UNITS, rng), rng.normal(size=x.shape)


def statistics_after(layer, x, params, weight=None):
    """Return the statistics after a batch; those that do not move are as before."""
    new = layer.statistics(x, Params(params), make_context(True, weight))
    return {name: new.get(name, params[name]) for name in params if name not in ("gamma", "beta")}


def test_batch_norm_gives_units_the_shift_as_mean_and_the_gain_as_deviation():
    layer = BatchNorm(1e-12)
    x, params, _ = draw_norm(layer, 40)
    y, *_ = run_layer(layer, x, params, ctx=make_context(True))
    np.testing.assert_allclose(y.mean(axis=0), params["beta"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), np.abs(params["gamma"]), rtol=1e-10)


def test_batch_norm_follows_its_formula_with_weights():
    layer = BatchNorm(EPSILON)
    x, params, _ = draw_norm(layer, 9)
    weight = np.random.default_rng(1).exponential(size=9)
    y, *_ = run_layer(layer, x, params, ctx=make_context(True, weight))
    mean = np.average(x, axis=0, weights=weight)
    variance = np.average((x - mean) ** 2, axis=0, weights=weight)
    expected = params["gamma"] * (x - mean) / np.sqrt(variance + EPSILON) + params["beta"]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_layer_norm_follows_its_formula():
    layer = LayerNorm(EPSILON)
    x, params, _ = draw_norm(layer, 9)
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    expected = params["gamma"] * (x - mean) / np.sqrt(variance + EPSILON) + params["beta"]
    for ctx in (PREDICTION, make_context(True)):
        y, *_ = run_layer(layer, x, params, ctx=ctx)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


@given(counts=st.lists(st.integers(0, 4), min_size=2, max_size=8), seed=seeds)
def test_batch_norm_takes_a_weight_of_k_for_k_rows(counts, seed):
    """Output, all gradients, and the statistics that are left behind."""
    counts, layer = np.array([*counts, 2]), BatchNorm(EPSILON)  # not all rows weigh nothing
    x, params, grad_y = draw_norm(layer, len(counts), seed)  # that of one row; k together have k
    copies, weight = x.repeat(counts, axis=0), counts * 0.7
    y, grad_x, grads = run_layer(
        layer, x, params, grad_y=grad_y * counts[:, np.newaxis], ctx=make_context(True, weight)
    )
    of_copies = run_layer(
        layer, copies, params, grad_y=grad_y.repeat(counts, axis=0), ctx=make_context(True)
    )
    exactly = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(y.repeat(counts, axis=0), of_copies[0], **exactly)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, of_copies[2][name], **exactly)
    after, after_copies = (
        statistics_after(layer, *batch) for batch in ((x, params, weight), (copies, params))
    )
    for name, values in after.items():
        np.testing.assert_allclose(values, after_copies[name], **exactly)
    firsts = np.cumsum(counts) - counts
    for row in np.flatnonzero(counts):
        summed = of_copies[1][firsts[row] : firsts[row] + counts[row]].sum(axis=0)
        np.testing.assert_allclose(grad_x[row], summed, **exactly)
    np.testing.assert_array_equal(grad_x[counts == 0], 0.0)


def test_batch_without_weight_is_normalised_as_if_equal_and_leaves_no_trace():
    layer = BatchNorm()
    x, params, _ = draw_norm(layer, 5)
    y, *_ = run_layer(layer, x, params, ctx=make_context(True, np.zeros(5)))
    np.testing.assert_allclose(y, run_layer(layer, x, params, ctx=make_context(True))[0], 1e-12)
    for name, values in statistics_after(layer, x, params, np.zeros(5)).items():
        np.testing.assert_array_equal(values, params[name])


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_running_statistics_begin_as_a_plain_mean_and_go_on_as_a_moving_one(momentum):
    layer, rng = BatchNorm(momentum=momentum), np.random.default_rng(0)
    params = first_params(layer, N_UNITS)
    batches = [rng.normal(3.0, 2.0, (6, N_UNITS)) for _ in range(25)]
    n_first = round(1 / momentum)
    for t, x in enumerate(batches, start=1):
        params |= statistics_after(layer, x, params)
        if t <= n_first:
            mean = np.mean([b.mean(axis=0) for b in batches[:t]], axis=0)
            variance = np.mean([b.var(axis=0) for b in batches[:t]], axis=0)
        else:
            mean = (1 - momentum) * mean + momentum * x.mean(axis=0)
            variance = (1 - momentum) * variance + momentum * x.var(axis=0)
        np.testing.assert_allclose(params["running_mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(params["running_variance"], variance, rtol=1e-12)
    np.testing.assert_array_equal(params["n_batches"], 25.0)


def test_batch_norm_predicts_by_its_running_statistics():
    """The same for a row whatever the rows beside it, with weights or without."""
    layer = BatchNorm(EPSILON)
    x, params, _ = draw_norm(layer, 7)
    sigma = np.sqrt(params["running_variance"] + EPSILON)
    expected = params["gamma"] * (x - params["running_mean"]) / sigma + params["beta"]
    y, *_ = run_layer(layer, x, params)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(run_layer(layer, x[2:4], params)[0], y[2:4])
    weighted, *_ = run_layer(layer, x, params, ctx=make_context(weight=np.arange(7.0)))
    np.testing.assert_array_equal(weighted, y)


def test_batch_norm_before_any_batch_predicts_what_comes_in():
    x, layer = np.random.default_rng(0).normal(size=(4, N_UNITS)), BatchNorm(0.0)
    np.testing.assert_array_equal(run_layer(layer, x, first_params(layer, N_UNITS))[0], x)


def test_batch_of_one_row_trains_by_the_running_statistics_and_leaves_them():
    layer = BatchNorm(EPSILON)
    x, params, grad_y = draw_norm(layer, 1)
    ctx = make_context(True, np.ones(1))
    y, grad_x, _ = run_layer(layer, x, params, grad_y=grad_y, ctx=ctx)
    assert layer.statistics(x, Params(params), ctx) == {}
    np.testing.assert_array_equal(y, run_layer(layer, x, params)[0])
    sigma = np.sqrt(params["running_variance"] + EPSILON)
    np.testing.assert_allclose(grad_x, grad_y * params["gamma"] / sigma, rtol=1e-12)


@pytest.mark.parametrize("layer", NORMS)
def test_normalising_a_unit_or_row_that_never_varies_gives_the_shift(layer):
    _, params, _ = draw_norm(layer, 6)
    y, grad_x, _ = run_layer(layer, np.full((6, N_UNITS), 7.0), params, ctx=make_context(True))
    expected = np.broadcast_to(params["beta"], y.shape)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10)
    assert np.isfinite(grad_x).all()


@pytest.mark.parametrize("layer", NORMS)
def test_gain_begins_at_one_and_shift_at_zero_and_neither_decays(layer):
    params, layout = first_params(layer, N_UNITS), Network((layer,), N_UNITS).layout
    np.testing.assert_array_equal(params["gamma"], 1.0)
    np.testing.assert_array_equal(params["beta"], 0.0)
    assert (layout.n_decayed, layout.n_trainable) == (0, 2 * N_UNITS)


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_normalisation_and_its_gradients_equal_pytorchs(kind, is_training):
    """To 1e-10 in float64: output, gradients of input, gain and shift, and running mean."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch's gradients")
    layer = BatchNorm() if kind == "batch" else LayerNorm()
    x, params, grad_y = draw_norm(layer, 11)
    names = {"weight": "gamma", "bias": "beta"}
    if kind == "batch":
        params["n_batches"][:] = 10.0  # from here on both move their mean by a tenth
        theirs = torch.nn.BatchNorm1d(N_UNITS, dtype=torch.float64)
        names |= {"running_mean": "running_mean", "running_var": "running_variance"}
    else:
        theirs = torch.nn.LayerNorm(N_UNITS, dtype=torch.float64)
    for name, ours in names.items():
        getattr(theirs, name).data.copy_(torch.tensor(params[ours]))
    theirs.train(is_training)
    their_x = torch.tensor(x, requires_grad=True)
    their_y = theirs(their_x)
    their_y.backward(torch.tensor(grad_y))
    y, grad_x, grads = run_layer(layer, x, params, grad_y=grad_y, ctx=make_context(is_training))
    compared = [
        (y, their_y.detach()),
        (grad_x, their_x.grad),
        (grads["gamma"], theirs.weight.grad),
        (grads["beta"], theirs.bias.grad),
    ]
    if kind == "batch":
        after = statistics_after(layer, x, params) if is_training else params
        compared.append((after["running_mean"], theirs.running_mean))
    for ours, of_torch in compared:
        np.testing.assert_allclose(ours, of_torch.numpy(), rtol=0, atol=1e-10)


def test_weights_reach_batch_normalisation_deep_in_a_network():
    """Rows of weight zero change nothing for the others."""
    layers = Sequential((Dense(4), BatchNorm(), Dropout(0.0), Dense(3), BatchNorm(), Dense(1)))
    rng = np.random.default_rng(0)
    p, X = Params(draw_params(layers, 2, rng)), rng.normal(size=(9, 2))
    few = layers.forward(X[:6], p, make_context(True))
    weighted, equal = (
        layers.forward(X, p, make_context(True, weight))[:6]
        for weight in (np.repeat([1.0, 0.0], [6, 3]), None)
    )
    np.testing.assert_allclose(weighted, few, rtol=0, atol=1e-12)
    assert np.abs(equal - few).max() > 1e-3


# Embeddings of numbers.


@dtypes
@pytest.mark.parametrize("kind", ["periodic", "piecewise_linear"])
@given(shape=shapes_NI, seed=seeds, n_functions=st.integers(1, 4), n_units=st.integers(1, 3))
def test_numeric_embedding_computes_its_formula(kind, dtype, shape, seed, n_functions, n_units):
    """Feature by feature; the features themselves come last."""
    layer, rng = NumericEmbedding(n_functions, n_units, kind), np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(dtype)
    params = {name: p.astype(dtype) for name, p in draw_params(layer, shape[1], rng).items()}
    y, *_ = run_layer(layer, x, params)
    w, b, V, c = (params[name] for name in "wbVc")
    assert y.shape == (shape[0], shape[1] * (n_units + 1))
    for i in range(shape[1]):
        u = x[:, i, np.newaxis] * w[i]
        C = np.cos(2 * np.pi * u + b[i]) if kind == "periodic" else np.clip(u + b[i], 0, 1)
        part = y[:, i * n_units : (i + 1) * n_units]
        np.testing.assert_allclose(part, C @ V[i].T + c[i], rtol=0, atol=1e3 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(y[:, shape[1] * n_units :], x)


def test_periodic_functions_of_whole_frequencies_have_period_one():
    """What goes on is the same one unit further, but for the feature itself."""
    layer, rng = NumericEmbedding(4, 3), np.random.default_rng(0)
    x, params = rng.normal(size=(9, 2)), draw_params(layer, 2, rng)
    params["w"] = rng.integers(-3, 4, (2, 4)).astype(float)
    y, one_further, half = (run_layer(layer, x + shift, params)[0] for shift in (0.0, 1.0, 0.5))
    np.testing.assert_allclose(one_further[:, :6], y[:, :6], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(one_further[:, 6:], x + 1.0)
    assert np.abs(half - y)[:, :6].max() > 0.1


def test_piecewise_linear_functions_begin_side_by_side():
    """With weights of one their sum rises in a straight line from -3 to 3, and is level outside."""
    layer = NumericEmbedding(6, 1, "piecewise_linear")
    params = first_params(layer, 1)
    params["V"][...], params["c"][...] = 1.0, 0.0
    x = np.array([-9.0, -3.0, -2.5, -1.0, 0.0, 0.25, 2.0, 3.0, 9.0])
    y, *_ = run_layer(layer, x[:, np.newaxis], params)
    np.testing.assert_allclose(y[:, 0], np.clip(x, -3, 3) + 3.0, rtol=0, atol=1e-12)


def test_periodic_functions_begin_as_their_paper_says():
    params = first_params(NumericEmbedding(16, 50), 40)
    w, b, V, c = (params[name] for name in "wbVc")
    assert w.std() == pytest.approx(0.1, rel=0.05)
    assert 0.99 * np.pi < np.abs(b).max() <= np.pi
    assert 0.99 / 4 < np.abs(V).max() <= 1 / 4
    assert 0.98 / 4 < np.abs(c).max() <= 1 / 4
    for values in (w, b, V, c):
        assert abs(values.mean()) < 0.1 * values.std()


def test_members_take_turns_in_what_they_see():
    """Each begins as its kind does, and predicts as it alone would, whatever its number is."""
    layers, others = (
        (NumericEmbedding(5, 2, kind), Dense(1)) for kind in ("periodic", "piecewise_linear")
    )
    network = Network(layers, 3, 4, other_layers=others)
    assert [network.of_member(k).layers for k in range(4)] == [layers, others] * 2
    params, X = draw_first(network), np.random.default_rng(0).normal(size=(7, 3))
    w = network.layout.view(params, "numericembedding_1.w")
    assert (w[[1, 3]] == 5 / 6).all()
    assert (w[0] != w[2]).all()
    logits = logits_of(network, params, X)
    for k in range(4):
        part = Network(layers, 3, 1, first_member=k, other_layers=others)
        np.testing.assert_array_equal(logits_of(part, params[k : k + 1], X)[0], logits[k])
        np.testing.assert_array_equal(draw_first(part, first_member=k)[0], params[k])


def test_numeric_embedding_decays_the_linear_step_and_nothing_else():
    specs = {spec.name: spec for spec in NumericEmbedding(lr_scale=0.25).params(3)}
    assert {name for name, spec in specs.items() if spec.weight_decay} == {"V"}
    rates = {name: spec.lr_scale for name, spec in specs.items()}
    assert rates == {"w": 0.25, "b": 0.25, "V": 1.0, "c": 1.0}
    assert all(spec.trainable for spec in specs.values())


def test_periodic_functions_draw_frequencies_as_they_are_told():
    layer = NumericEmbedding(3, frequency_init=lambda rng, shape: np.full(shape, 7.0))
    assert (first_params(layer, 2)["w"] == 7.0).all()


# Embeddings of categories.


@dtypes
@given(shape=shapes_NI, seed=seeds)
def test_categorical_embedding_is_a_linear_step_over_one_hot_columns(dtype, shape, seed):
    """Forward and backward, with levels that occur often, once and never."""
    layer, rng = categories(shape[1]), np.random.default_rng(seed)
    x = codes(rng, shape).astype(dtype)
    params = {name: p.astype(dtype) for name, p in draw_params(layer, shape[1], rng).items()}
    grad_y = rng.normal(size=(shape[0], layer.n_out(shape[1]))).astype(dtype)
    y, grad_x, grads = run_layer(layer, x, params, grad_y=grad_y)
    start = 0
    for j, (E, size) in enumerate(zip(params.values(), layer.sizes, strict=True)):
        one_hot = (x[:, j, np.newaxis] == np.arange(size)).astype(dtype)
        part = slice(start, start + layer.n_units[j])
        np.testing.assert_array_equal(y[:, part], one_hot @ E)
        tolerance = 100 * np.finfo(dtype).eps
        expected = one_hot.T @ grad_y[:, part]
        np.testing.assert_allclose(grads[f"E_{j + 1}"], expected, rtol=0, atol=tolerance)
        start = part.stop
    assert start == y.shape[1]
    np.testing.assert_array_equal(grad_x, np.zeros_like(x))


@pytest.mark.parametrize("executor", ["numpy", "eager"])
def test_members_look_up_rows_of_their_own_large_tables(executor):
    """And forget the batch before: rows that are not looked up stay where they are."""
    network = Network((CategoricalEmbedding((5_000,), (3,)), Dense(1)), 1, 3)
    params, rng = draw_first(network), np.random.default_rng(0)
    X, y = rng.integers(4_000, 5_000, (50, 1)).astype(float), np.arange(50) % 2
    trained = take_steps(network, params, X, y, executor=executor, members=(0, 1, 2))["params"]
    moved = network.layout.view(trained != params, "categoricalembedding_1.E_1").any(axis=2)
    for k in range(3):
        of_member = np.random.default_rng(k).integers(0, 50, (5, 8))  # the rows that it trained on
        np.testing.assert_array_equal(np.flatnonzero(moved[k]), np.unique(X[of_member]))


@pytest.mark.parametrize(
    ("code", "level"),
    [(-1.0, 0), (-1e9, 0), (4.0, 3), (1e9, 3), (2.9, 2), (np.nan, 0), (np.inf, 3), (-np.inf, 0)],
)
def test_categorical_embedding_takes_codes_outside_for_the_nearest_level(code, level):
    """Forward and backward alike: nothing is read or written beside the table."""
    layer, x = CategoricalEmbedding((4,), (2,)), np.array([[1.0], [code]])
    inputs = {"E": np.arange(8.0).reshape(4, 2), "x": x, "grad": np.array([[0.0, 0.0], [5.0, 7.0]])}

    def formula(named, take_bits):
        y, _, grads = run_layer(layer, named["x"], {"E_1": named["E"]}, grad_y=named["grad"])
        return {"y": y, "grad_E": grads["E_1"]}

    with np.errstate(invalid="ignore"):  # 0 times infinity
        eager = formula(inputs, None)
        traced = run_traced(formula, inputs, eager)
    for found in (eager, traced):
        np.testing.assert_array_equal(found["y"][1], [2 * level, 2 * level + 1])
        expected = np.zeros((4, 2))
        expected[level] = [5.0, 7.0]
        np.testing.assert_array_equal(found["grad_E"], expected)


def test_categorical_embedding_begins_with_numbers_of_variance_one_that_decay():
    layer = CategoricalEmbedding((300, 40), (10, 5), lr_scale=0.5)
    values = np.concatenate([E.ravel() for E in first_params(layer, 2).values()])
    assert values.mean() == pytest.approx(0.0, abs=5 / np.sqrt(values.size))
    assert values.var() == pytest.approx(1.0, rel=5 * np.sqrt(2 / values.size))
    layout = Network((layer, Dense(1)), 2).layout
    assert layout.lr_factors[:2] == ((3000, 0.5), (200, 0.5))
    assert layout.n_decayed == 3215


@pytest.mark.parametrize(
    ("sizes", "n_units"),
    [((3,), (2,)), ((3, 4), (2,)), ((3, 4, 5), (2, 2, 2)), ((3, 0), (2, 2)), ((3, 4), (0, 2))],
)
def test_categorical_embedding_refuses_what_does_not_fit_its_columns(sizes, n_units):
    message = f"for each of its 2 columns, got sizes={sizes} and n_units={n_units}."
    with pytest.raises(ValueError, match=re.escape(message)):
        CategoricalEmbedding(sizes, n_units).params(2)


def test_numeric_embedding_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match=r"one of \['periodic', 'piecewise_linear'\], got 'p'"):
        Network((NumericEmbedding(kind="p"), Dense(1)), 2).layout  # noqa: B018
