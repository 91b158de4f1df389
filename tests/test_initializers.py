"""First values: their variance, and what symmetry among them does."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from strategies import seeds
from tables import ACTIVATION_ROWS, INITIALIZER_VARIANCE, Bump, pose_training

from skdnn._training import train
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.initializers import (
    INITIALIZERS,
    NormalOfRandomScale,
    orthogonal,
    standard_normal,
    zeros,
)
from skdnn.layers import Dense
from skdnn.training.rows import Rows

names = pytest.mark.parametrize("name", INITIALIZERS)


def test_table_covers_every_initializer():
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
    assert values.shape == (300, 200)
    assert values.mean() == pytest.approx(0.0, abs=5 / np.sqrt(values.size))
    assert values.var() == pytest.approx(1.0, rel=5 * np.sqrt(2 / values.size))


def test_normal_of_random_scale_draws_one_scale_for_each_array_log_uniformly():
    """As many scales from 0.1 to 1 as from 1 to 10; within an array the numbers are normal."""
    rng, initializer = np.random.default_rng(0), NormalOfRandomScale(0.1, 10.0)
    scales = np.sort([initializer(rng, (20, 20)).std() for _ in range(600)])
    assert scales[0] > 0.09
    assert scales[-1] < 11.0
    quarters = np.log10(scales[[150, 300, 450]])
    np.testing.assert_allclose(quarters, [-0.5, 0.0, 0.5], rtol=0, atol=0.15)
    values = initializer(rng, (300, 300))
    assert (np.abs(values) > 2 * values.std()).mean() == pytest.approx(0.0455, abs=0.005)
    assert values.mean() == pytest.approx(0.0, abs=5 * values.std() / 300)


def test_normal_of_random_scale_may_have_one_scale_only():
    values = NormalOfRandomScale(3.0, 3.0)(np.random.default_rng(0), (200, 200))
    assert values.std() == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, np.inf), (np.nan, 1.0)]
)
def test_normal_of_random_scale_refuses_what_is_no_range_of_scales(low, high):
    with pytest.raises(ValueError, match=rf"low at most high, got low={low} and high={high}; swap"):
        NormalOfRandomScale(low, high)


@pytest.mark.parametrize("name", ACTIVATION_ROWS)
def test_auto_initialization_suits_the_activation(name):
    network = build_network(
        Architecture(5, hidden_layer_sizes=(4,), activation=(name,), dropout=(0.0,))
    )
    hidden, output = (layer for layer in network.layers if isinstance(layer, Dense))
    assert hidden.weight_init is INITIALIZERS[ACTIVATION_ROWS[name].initialization]
    assert output.weight_init is INITIALIZERS["glorot_uniform"]
    assert hidden.bias_init is output.bias_init is zeros


def test_auto_initialization_follows_each_layers_own_activation():
    network = build_network(
        Architecture(
            5, hidden_layer_sizes=(4, 4, 4), activation=("selu", "tanh", Bump()), dropout=(0.0,) * 3
        )
    )
    dense = [layer.weight_init for layer in network.layers if isinstance(layer, Dense)]
    names = ["lecun_normal", "glorot_uniform", "he_normal", "glorot_uniform"]
    assert dense == [INITIALIZERS[name] for name in names]


@names
def test_named_initialization_holds_for_all_layers(name):
    network = build_network(
        Architecture(
            5, hidden_layer_sizes=(4,), activation=("selu",), dropout=(0.0,), initialization=name
        )
    )
    dense = [layer for layer in network.layers if isinstance(layer, Dense)]
    assert [layer.weight_init for layer in dense] == [INITIALIZERS[name]] * 2


def first_values(activation, sizes=(300, 200), **arguments):
    """Return the first weights and biases by layer of a network that begins as MLPClassifier."""
    network = build_network(
        Architecture(
            100,
            hidden_layer_sizes=sizes,
            activation=activation,
            dropout=(0.0,) * len(sizes),
            initialization="mlp",
            **arguments,
        )
    )
    params = network.init_params([np.random.default_rng(0)])
    names = (n for n in network.layout.entries if n.endswith((".W", ".b")))
    values = {name: network.layout.view(params, name)[0] for name in names}
    return [(values[n], values[n[:-1] + "b"]) for n in values if n.endswith("W")]


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
    ours = first_values((activation,) * 2)
    for (W, b), their_W, their_b in zip(ours, peer.coefs_, peer.intercepts_, strict=True):
        assert W.shape == their_W.shape
        assert np.abs(W).max() == pytest.approx(np.abs(their_W).max(), rel=0.05)
        assert b.size == 1 or np.abs(b).max() == pytest.approx(np.abs(their_b).max(), rel=0.05)


def test_mlp_initialization_without_hidden_layers_and_with_residual_ones():
    [(W, _)] = first_values((), ())
    assert 0.9 < np.abs(W).max() / np.sqrt(6 / 101) <= 1.0
    plain = first_values(("relu",) * 2, (100, 100))
    residual = first_values(("relu",) * 2, (100, 100), residual=True, normalization="layer")
    for one, other in zip(plain, residual, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def hidden_units_after_training(initialization, activation):
    """Return incoming and outgoing weights of the units of the first of two hidden layers."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=(60, 3)), rng.integers(0, 2, 60).astype(float))
    plan, state = pose_training(
        rows,
        hidden_layer_sizes=(5, 4),
        activation=activation,
        initialization=initialization,
        solver="sgd",
        learning_rate_init=0.5,
        batch_size=20,
        max_iter=20,
    )
    train(plan, state, rows)
    layout = plan.network.layout
    views = [layout.view(state.params, name)[0] for name in layout.entries]
    first, second, output, *_ = views
    return first, second, output


def spread_among_units(weights):
    """Return how far the units of a layer, in the columns, are from being the same."""
    return np.ptp(weights, axis=1).max()


def test_zeros_leave_all_units_of_a_layer_identical():
    """The symmetry never breaks: they compute, and therefore learn, the same thing."""
    first, second, output = hidden_units_after_training("zeros", "logistic")
    for weights in (first, second, output):
        assert np.abs(weights).max() > 1e-6  # they did learn
    assert spread_among_units(first) < 1e-12
    assert spread_among_units(second) < 1e-12
    assert np.ptp(output) < 1e-12


@pytest.mark.filterwarnings("ignore:In the end the network answers the same")
def test_zeros_with_tanh_learn_nothing_but_the_last_bias():
    """Where g(0) = 0, no signal passes in either direction."""
    for weights in hidden_units_after_training("zeros", "tanh"):
        np.testing.assert_array_equal(weights, 0.0)


@pytest.mark.parametrize("name", [name for name in INITIALIZERS if name != "zeros"])
def test_random_values_break_the_symmetry(name):
    first, second, output = hidden_units_after_training(name, "logistic")
    assert spread_among_units(first) > 1e-3
    assert spread_among_units(second) > 1e-3
    assert np.ptp(output) > 1e-3


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
