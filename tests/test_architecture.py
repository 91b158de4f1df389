"""From parameters to layers and first values: recipes, and what symmetry among weights does."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from data import classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from strategies import NORMALIZATIONS, seeds
from tables import (
    ACTIVATION_ROWS,
    INITIALIZER_VARIANCE,
    Bump,
    draw_first,
    logits_of,
)

from skdnn import TabularEncoder
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.nn import Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual
from skdnn.nn.initializers import (
    INITIALIZERS,
    normal_of_random_scale,
    orthogonal,
    standard_normal,
    zeros,
)

names = pytest.mark.parametrize("name", INITIALIZERS)


def test_table_names_every_initializer():
    assert set(INITIALIZER_VARIANCE) == set(INITIALIZERS)


@names
@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (100, 100)])
def test_initializer_has_mean_zero_and_the_variance_of_its_recipe(name, shape):
    """Within five standard deviations of what that many normal numbers would show."""
    values = INITIALIZERS[name](np.random.default_rng(0), shape)
    variance = INITIALIZER_VARIANCE[name](*shape)
    assert values.shape == shape
    assert values.mean() == pytest.approx(0.0, abs=5 * np.sqrt(variance / values.size))
    assert values.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / values.size))


@pytest.mark.parametrize("name", [name for name in INITIALIZERS if name.endswith("uniform")])
def test_uniform_initializer_stays_within_its_half_width(name):
    values = INITIALIZERS[name](np.random.default_rng(0), (200, 100))
    half_width = np.sqrt(3 * INITIALIZER_VARIANCE[name](200, 100))
    assert 0.99 * half_width < np.abs(values).max() <= half_width


@pytest.mark.parametrize("name", ["normal", "he_normal", "glorot_normal", "lecun_normal"])
def test_normal_initializer_has_the_tails_of_a_normal_distribution(name):
    values = INITIALIZERS[name](np.random.default_rng(0), (300, 300))
    deviation = np.sqrt(INITIALIZER_VARIANCE[name](300, 300))
    assert (np.abs(values) > 2 * deviation).mean() == pytest.approx(0.0455, abs=0.005)
    assert np.abs(values).max() > 3.5 * deviation


@names
def test_initializer_repeats_itself_with_the_same_seed(name):
    one, same, other = (
        INITIALIZERS[name](np.random.default_rng(seed), (4, 3)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert name == "zeros" or (one != other).all()


@given(seed=seeds, shape=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_orthogonal_has_orthonormal_rows_or_columns(seed, shape):
    Q = orthogonal(np.random.default_rng(seed), shape)
    gram = Q.T @ Q if shape[0] >= shape[1] else Q @ Q.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), rtol=0, atol=1e-12)


def test_orthogonal_draws_both_signs():
    """Without R's signs, the diagonal of the QR decomposition would favour one of them."""
    rng = np.random.default_rng(0)
    firsts = [orthogonal(rng, (3, 3))[0, 0] for _ in range(400)]
    assert np.mean(np.array(firsts) > 0) == pytest.approx(0.5, abs=0.1)


def test_standard_normal_has_mean_zero_and_variance_one():
    values = standard_normal(np.random.default_rng(0), (300, 200))
    assert values.mean() == pytest.approx(0.0, abs=5 / np.sqrt(values.size))
    assert values.var() == pytest.approx(1.0, rel=5 * np.sqrt(2 / values.size))


def test_normal_of_random_scale_draws_one_scale_for_each_array_log_uniformly():
    """Between 0.05 and 1; within an array the numbers are normal."""
    rng = np.random.default_rng(0)
    scales = np.sort([normal_of_random_scale(rng, (20, 20)).std() for _ in range(600)])
    assert scales[0] > 0.045
    assert scales[-1] < 1.1
    quarters = np.log(scales[[150, 300, 450]]) / np.log(0.05)
    np.testing.assert_allclose(quarters, [0.75, 0.5, 0.25], rtol=0, atol=0.075)
    values = normal_of_random_scale(rng, (300, 300))
    assert (np.abs(values) > 2 * values.std()).mean() == pytest.approx(0.0455, abs=0.005)
    assert values.mean() == pytest.approx(0.0, abs=5 * values.std() / 300)


@pytest.mark.parametrize(
    ("activation", "initialization"),
    [("relu", "he_normal"), ("relu", "he_uniform"), ("selu", "lecun_normal")],
)
def test_recipe_keeps_the_signal_alive_through_thirty_layers(activation, initialization):
    """The mean square of the units after thirty layers is that after one, within a factor of 5."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 100))
    squares = []
    for _ in range(30):
        x = ACTIVATION_ROWS[activation].value(x @ INITIALIZERS[initialization](rng, (100, 100)))
        squares.append((x * x).mean())
    assert squares[0] / 5 < squares[-1] < squares[0] * 5


def test_small_random_numbers_let_the_signal_die_out():
    """What the recipes are against: a hundredth of the signal is left after two layers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 100))
    for _ in range(2):
        x = np.maximum(x @ INITIALIZERS["normal"](rng, (100, 100)), 0.0)
    assert np.sqrt((x * x).mean()) < 0.01


# The layers of a network.


def build(sizes, activation="tanh", dropout=0.1, columns=4, **arguments):
    """Build a network with the same activation and dropout in each hidden layer, or as given."""
    spread = [v if isinstance(v, tuple) else (v,) * len(sizes) for v in (activation, dropout)]
    return build_network(Architecture(columns, sizes, *spread, **arguments))


def dense_layers(network):
    """Return the linear steps of a network, those within layers too."""
    layers = network.of_member(0).walk(network.n_in)
    return [layer for _, layer, _ in layers if isinstance(layer, Dense)]


def test_network_leaves_out_layers_that_would_do_nothing():
    network = build((3, 2), ("identity", "tanh"), (0.0, 0.1))
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [Dense, Dense, Activation, Dropout, Dense]
    assert [layer.n_units for layer in dense_layers(network)] == [3, 2, 1]


def test_network_without_hidden_layers_is_logistic_regression():
    params = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_allclose(logits_of(build(()), params, np.eye(4)), [[6.0, 7.0, 8.0, 9.0]])


@pytest.mark.parametrize(
    ("encoder", "n_columns", "expected"),
    [
        (TabularEncoder(), 1_000, 1.0),
        (TabularEncoder(), 1_500, 0.2),
        (None, 1_500, 1.0),  # of any unit, as those of a sparse table
    ],
)
@pytest.mark.parametrize("sizes", [(), (8, 8)])
def test_first_weights_of_wide_tables_learn_slowly(encoder, n_columns, expected, sizes):
    parameters = SimpleNamespace(
        hidden_layer_sizes=sizes,
        activation="tanh",
        dropout=0.0,
        initialization="auto",
        normalization=None,
        residual=False,
        n_members=1,
        numeric_embedding=None,
    )
    architecture = Architecture.of(parameters, encoder, np.zeros((1, n_columns)))
    first, *others = dense_layers(build_network(architecture))
    assert first.lr_scale == pytest.approx(expected)
    assert all(layer.lr_scale == 1.0 for layer in others)
    alike = replace(architecture, initialization="mlp")
    assert all(layer.lr_scale == 1.0 for layer in dense_layers(build_network(alike)))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalisation_stands_between_the_linear_step_and_the_activation(normalization):
    between = {"batch": [BatchNorm], "layer": [LayerNorm], None: []}[normalization]
    kinds = [type(layer) for layer in build((4, 3), normalization=normalization).layers]
    assert kinds == [Dense, *between, Activation, Dropout] * 2 + [Dense]


def test_hidden_layers_as_wide_as_the_one_before_are_residual_and_the_others_are_not():
    layers = build((4, 4, 6, 6, 1), residual=True, normalization="batch").layers
    is_residual = [isinstance(x, Residual) for x in layers if isinstance(x, Residual | Dense)]
    assert is_residual == [False, True, False, True, False, False]
    residual = next(layer for layer in layers if isinstance(layer, Residual))
    assert [type(layer) for layer in residual.layers] == [Dense, BatchNorm, Activation, Dropout]


def test_output_layer_is_never_residual():
    assert build((1,), residual=True).layers[-1] == build((1,)).layers[-1]
    assert isinstance(build((), residual=True).layers[0], Dense)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_residual_draws_the_first_weights_that_plain_layers_draw(normalization):
    plain, residual = (
        draw_first(build((4, 4), normalization=normalization, residual=is_residual))
        for is_residual in (False, True)
    )
    np.testing.assert_array_equal(plain, residual)


@pytest.mark.parametrize("name", ACTIVATION_ROWS)
def test_auto_initialization_suits_the_activation(name):
    hidden, output = dense_layers(build((4,), name))
    assert hidden.weight_init is INITIALIZERS[ACTIVATION_ROWS[name].initialization]
    assert output.weight_init is INITIALIZERS["glorot_uniform"]
    assert hidden.bias_init is output.bias_init is zeros


def test_auto_initialization_follows_each_layers_own_activation():
    dense = dense_layers(build((4, 4, 4), ("selu", "tanh", Bump())))
    expected = ["lecun_normal", "glorot_uniform", "he_normal", "glorot_uniform"]
    assert [layer.weight_init for layer in dense] == [INITIALIZERS[name] for name in expected]


@names
def test_named_initialization_holds_for_all_layers(name):
    dense = dense_layers(build((4,), "selu", initialization=name))
    assert [layer.weight_init for layer in dense] == [INITIALIZERS[name]] * 2


def first_values(activation, sizes=(300, 200), **arguments):
    """Return the first weights and biases by layer of a network that begins as MLPClassifier."""
    network = build(sizes, activation, 0.0, 100, initialization="mlp", **arguments)
    params, view = draw_first(network), network.layout.view
    weights = [name for name in network.layout.specs if name.endswith(".W")]
    return [(view(params, name)[0], view(params, f"{name[:-1]}b")[0]) for name in weights]


@pytest.mark.parametrize(
    ("activation", "factors"),
    [
        (("relu", "relu"), (6, 6, 6)),
        (("logistic", "logistic"), (2, 2, 2)),
        (("logistic", "tanh"), (2, 6, 6)),
        (("selu", "logistic"), (6, 2, 2)),
    ],
)
def test_mlp_initialization_draws_weights_and_biases_from_the_bounds_of_mlp_classifier(
    activation, factors
):
    fans = [(100, 300), (300, 200), (200, 1)]
    for (W, b), fan, factor in zip(first_values(activation), fans, factors, strict=True):
        bound = np.sqrt(factor / sum(fan))
        assert W.shape == fan
        for values in (W, b):
            assert np.abs(values).max() <= bound
        assert np.abs(W).max() > 0.95 * bound
        assert W.var() == pytest.approx(bound**2 / 3, rel=0.2)
        if b.size > 1:
            assert np.abs(b).max() > 0.95 * bound
        assert b.any()


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_mlp_initialization_has_the_range_that_mlp_classifier_draws(activation):
    """Their largest first weights and biases, of many, are as large as ours."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 100)), np.arange(50) % 2
    peer = MLPClassifier((300, 200), activation, learning_rate_init=1e-300, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(X, y)
    ours = first_values(activation)
    for (W, b), their_W, their_b in zip(ours, peer.coefs_, peer.intercepts_, strict=True):
        assert W.shape == their_W.shape
        assert np.abs(W).max() == pytest.approx(np.abs(their_W).max(), rel=0.05)
        assert b.size == 1 or np.abs(b).max() == pytest.approx(np.abs(their_b).max(), rel=0.05)


def test_mlp_initialization_without_hidden_layers_and_with_residual_ones():
    [(W, _)] = first_values((), ())
    assert 0.9 < np.abs(W).max() / np.sqrt(6 / 101) <= 1.0
    plain = first_values("relu", (100, 100))
    residual = first_values("relu", (100, 100), residual=True, normalization="layer")
    for one, other in zip(plain, residual, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


# What symmetry among first weights does in training.


def weights_after_training(initialization, activation):
    """Return the weights of the layers of a network with two hidden ones."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    settings = {"solver": "sgd", "learning_rate_init": 0.5, "batch_size": 20, "max_iter": 20}
    model = classifier((5, 4), activation, initialization=initialization, **settings)
    return model.fit(X, y).coefs_


def spread_among_units(weights):
    """Return how far the units of a layer, in the columns, are from being the same."""
    return np.ptp(weights, axis=1).max()


def test_zeros_leave_all_units_of_a_layer_identical():
    """The symmetry never breaks: they compute, and therefore learn, the same thing."""
    first, second, output = weights_after_training("zeros", "logistic")
    for weights in (first, second, output):
        assert np.abs(weights).max() > 1e-6  # they did learn
    assert spread_among_units(first) < 1e-12
    assert spread_among_units(second) < 1e-12
    assert np.ptp(output) < 1e-12


@pytest.mark.filterwarnings("ignore:In the end the network answers the same")
def test_zeros_with_tanh_learn_nothing_but_the_last_bias():
    """Where g(0) = 0, no signal passes in either direction."""
    for weights in weights_after_training("zeros", "tanh"):
        np.testing.assert_array_equal(weights, 0.0)


@pytest.mark.parametrize("name", [name for name in INITIALIZERS if name != "zeros"])
def test_random_values_break_the_symmetry(name):
    first, second, output = weights_after_training(name, "logistic")
    assert spread_among_units(first) > 1e-3
    assert spread_among_units(second) > 1e-3
    assert np.ptp(output) > 1e-3
