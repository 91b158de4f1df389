"""Activation functions and losses: their values against other sources, at any size of number.

What they have in common with all formulas is in `test_parts`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import log_loss
from strategies import EXTREME_LOGITS, logits_N, n_samples, seeds
from tables import ACTIVATION_ROWS, LOSS_ROWS, Bump, classes_defined_in

from skdnn.nn import BinaryCrossEntropy, FocalLoss, activations, functions, losses
from skdnn.nn.activations import (
    ACTIVATIONS,
    ActivationFunction,
    LeakyReLU,
    Tanh,
    make_activation,
)
from skdnn.nn.losses import LOSSES, OwnLoss, make_loss, smooth_labels

names = pytest.mark.parametrize("name", ACTIVATION_ROWS)
every_loss = pytest.mark.parametrize("loss", LOSS_ROWS.values(), ids=LOSS_ROWS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
FAR = np.array([sign * z for z in (36.0, 88.0, 89.0, 710.0, 745.0, 1e4) for sign in (1.0, -1.0)])
GRID = np.linspace(-8.0, 8.0, 1000)  # an even number: zero, where kinks are, is not among them


# Activation functions.


def test_table_names_every_activation():
    assert set(ACTIVATION_ROWS) == set(ACTIVATIONS)
    known = classes_defined_in(activations, "derivative") - {ActivationFunction}
    assert set(ACTIVATIONS.values()) == known


@names
@given(z=st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=8).map(np.array))
def test_activation_value_equals_its_formula(name, z):
    expected = ACTIVATION_ROWS[name].value(z)
    np.testing.assert_allclose(ACTIVATIONS[name]().value(z), expected, rtol=1e-13, atol=1e-14)


@names
@dtypes
def test_activation_is_right_and_silent_far_from_zero(name, dtype):
    """Warnings are errors here: nothing overflows, and the limits are exact to rounding."""
    activation, z = ACTIVATIONS[name](), FAR.astype(dtype)
    value, derivative = activation.value(z), activation.derivative(z)
    assert value.dtype == derivative.dtype == dtype
    accuracy = 20 * np.finfo(dtype).eps
    expected = ACTIVATION_ROWS[name].value(FAR)
    np.testing.assert_allclose(value, expected, rtol=accuracy, atol=36 * accuracy)
    slope = ACTIVATION_ROWS[name].value(FAR + 0.5) - ACTIVATION_ROWS[name].value(FAR - 0.5)
    np.testing.assert_allclose(derivative, slope, rtol=accuracy, atol=36 * accuracy + 1e-11)


@names
@dtypes
def test_activation_derivative_equals_central_differences_of_its_formula(name, dtype):
    value, step = ACTIVATION_ROWS[name].value, 1e-6
    numerical = (value(GRID + step) - value(GRID - step)) / (2.0 * step)
    exact = ACTIVATIONS[name]().derivative(GRID)
    np.testing.assert_allclose(exact, numerical, rtol=0, atol=1e-8)
    derivative = ACTIVATIONS[name]().derivative(GRID.astype(dtype))
    np.testing.assert_allclose(derivative, exact, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", [n for n, row in ACTIVATION_ROWS.items() if row.has_kink])
def test_activation_with_a_kink_has_a_one_sided_derivative_there(name):
    [at_zero, left, right] = ACTIVATIONS[name]().derivative(np.array([0.0, -1e-9, 1e-9]))
    assert at_zero == pytest.approx(left, abs=1e-8) or at_zero == pytest.approx(right, abs=1e-8)
    assert left != pytest.approx(right, abs=0.1)


@names
def test_activation_of_no_number_is_no_number(name):
    assert np.isnan(ACTIVATIONS[name]().value(np.array([np.nan]))).all()


def test_leaky_relu_has_the_slope_it_is_given():
    activation = LeakyReLU(negative_slope=0.2)
    np.testing.assert_allclose(activation.value(np.array([-5.0, 5.0])), [-1.0, 5.0])
    np.testing.assert_allclose(activation.derivative(np.array([-5.0, 5.0])), [0.2, 1.0])


@pytest.mark.parametrize("slope", [-0.1, 1.5, np.nan])
def test_leaky_relu_refuses_a_slope_that_is_not_between_zero_and_one(slope):
    with pytest.raises(ValueError, match="negative_slope must be in"):
        LeakyReLU(slope)


def test_selu_keeps_mean_zero_and_variance_one():
    """The fixed point that its two constants are made for."""
    value = ACTIVATIONS["selu"]().value(np.random.default_rng(0).normal(size=1_000_000))
    assert value.mean() == pytest.approx(0.0, abs=0.005)
    assert value.var() == pytest.approx(1.0, abs=0.01)


@given(z=st.floats(-1e30, 1e30))
def test_sigmoid_and_softplus_are_finite_and_consistent(z):
    """Softplus of z and of -z differ by z, and the sigmoids of both add up to 1."""
    z = np.array([z, -z])
    a, s = functions.sigmoid(z), functions.softplus(z)
    assert ((a >= 0.0) & (a <= 1.0)).all()
    assert a.sum() == pytest.approx(1.0, abs=1e-15)
    assert s[0] - s[1] == pytest.approx(z[0], rel=1e-15, abs=1e-15)


def test_make_activation_takes_names_functions_and_own_objects():
    bump = Bump()
    assert make_activation("tanh") == Tanh()
    assert make_activation(LeakyReLU(0.3)) == LeakyReLU(0.3)
    assert make_activation(bump) is bump


# Losses.


def random_rows(n, seed):
    """Return labels, logits and weights."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n).astype(np.float64)
    return y, rng.normal(0.0, 3.0, n), rng.exponential(size=n)


def cost(loss, y, logits, weight=None):
    """Return the cost of one member."""
    weight = None if weight is None else weight[np.newaxis]
    [total] = loss.total(y[np.newaxis], logits[np.newaxis], weight)
    return total / len(y)


def test_names_stand_for_every_loss():
    known = {type(make_loss(name, focal_gamma=2.0)) for name in LOSSES}
    assert known == {type(loss) for loss in LOSS_ROWS.values()} - {OwnLoss}
    assert make_loss("log_loss", focal_gamma=3) == BinaryCrossEntropy()
    assert make_loss("focal", focal_gamma=3) == FocalLoss(3.0)
    own = LOSS_ROWS["binary_cross_entropy"]
    assert make_loss(own, focal_gamma=3) is own


@every_loss
@given(data=st.data(), logits=logits_N())
def test_loss_is_finite_and_its_gradient_bounded_for_logits_of_any_size(loss, data, logits):
    """Warnings are errors here: nothing overflows on the way either."""
    n = len(logits)
    y = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    value = loss.loss(y, logits)
    assert np.isfinite(value).all()
    assert (value >= 0.0).all()
    largest_slope = 1.0 + getattr(loss, "gamma", 0.0) / np.e  # (1 - a) softplus(z) <= 1/e
    assert (np.abs(loss.derivative(y, logits)) <= largest_slope).all()


@every_loss
def test_loss_of_no_number_is_no_number(loss):
    y, logits = np.array([0.0, 1.0]), np.full(2, np.nan)
    assert np.isnan(loss.loss(y, logits)).all()
    assert np.isnan(loss.derivative(y, logits)).all()


@every_loss
@dtypes
@pytest.mark.parametrize("y", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("size", [1e4, 1e30, "largest"])
def test_loss_is_linear_in_extreme_logits_that_are_wrong(loss, dtype, y, size):
    """The share of a label in y times |z| where the answer is wrong, and nothing where right."""
    size = float(np.finfo(dtype).max) if size == "largest" else size
    logits, y_true = np.array([size, -size], dtype), np.array([y, y], dtype)
    share, eps = np.array([1.0 - y, y]), float(np.finfo(dtype).eps)
    value, slope = loss.loss(y_true, logits), loss.derivative(y_true, logits)
    np.testing.assert_allclose(value / dtype(size), share, rtol=4 * eps, atol=eps)
    np.testing.assert_allclose(slope, share * [1.0, -1.0], rtol=4 * eps, atol=eps)


@dtypes
@pytest.mark.parametrize("z", EXTREME_LOGITS)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_binary_cross_entropy_is_right_on_one_extreme_logit(y, z, dtype):
    """``log(1 + e^z) - y z``, which is |z| where the answer is wrong and 0 where it is right."""
    loss, z, labels = BinaryCrossEntropy(), dtype(z), np.array([y], dtype)
    eps = float(np.finfo(dtype).eps)
    signed = np.float64(z) * (1.0 - 2.0 * y)  # positive where the answer is wrong
    value = cost(loss, labels, np.array([z]))
    assert value == pytest.approx(np.logaddexp(0.0, signed), rel=1e-15, abs=1e-14)
    [slope] = loss.derivative(labels, np.array([z]))
    assert slope == pytest.approx(float(expit(np.float64(z))) - y, rel=4 * eps, abs=eps)


@given(n=n_samples, seed=seeds)
def test_binary_cross_entropy_equals_scikit_learns_log_loss(n, seed):
    """With weights of mean 1; scikit-learn divides by their sum."""
    y, logits, weight = random_rows(n, seed)
    weight /= weight.mean()
    expected = log_loss(y, expit(logits), sample_weight=weight, labels=[0, 1])
    assert cost(BinaryCrossEntropy(), y, logits, weight) == pytest.approx(expected, rel=1e-10)


@given(n=n_samples, seed=seeds, gamma=st.floats(0.0, 5.0), smoothing=st.floats(0.0, 1.0))
def test_losses_follow_their_papers_in_probabilities(n, seed, gamma, smoothing):
    """Cross-entropy, and cross-entropy times powers of the error; labels between 0 and 1."""
    y, logits, _ = random_rows(n, seed)
    y, a = smooth_labels(y, smoothing), expit(logits)
    of_1, of_0 = -y * np.log(a), -(1.0 - y) * np.log(1.0 - a)
    cross_entropy, focal = BinaryCrossEntropy(), FocalLoss(gamma)
    np.testing.assert_allclose(cross_entropy.loss(y, logits), of_1 + of_0, rtol=1e-8)
    np.testing.assert_allclose(cross_entropy.derivative(y, logits), a - y, rtol=0, atol=1e-15)
    expected = (1.0 - a) ** gamma * of_1 + a**gamma * of_0
    np.testing.assert_allclose(focal.loss(y, logits), expected, rtol=1e-8)


@given(n=n_samples, seed=seeds, smoothing=st.floats(0.0, 1.0))
def test_focal_loss_without_gamma_equals_binary_cross_entropy(n, seed, smoothing):
    y, logits, _ = random_rows(n, seed)
    y, focal, plain = smooth_labels(y, smoothing), FocalLoss(0.0), BinaryCrossEntropy()
    exactly = {"rtol": 1e-13, "atol": 1e-15}
    np.testing.assert_allclose(focal.loss(y, logits), plain.loss(y, logits), **exactly)
    slopes = focal.derivative(y, logits), plain.derivative(y, logits)
    np.testing.assert_allclose(*slopes, rtol=0, atol=1e-15)


@dtypes
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_gradient_of_rows_answered_well_is_small_and_exact(gamma, dtype):
    """Where ``1 - a`` is e, it is ``-e^gamma (e + gamma e)``: far below the rounding of a."""
    z = 12.0
    slopes = FocalLoss(gamma).derivative(np.array([1.0, 0.0], dtype), np.array([z, -z], dtype))
    expected = (1.0 + gamma) * np.exp(-z * (1.0 + gamma))
    np.testing.assert_allclose(slopes, [-expected, expected], rtol=1e-4)


@pytest.mark.parametrize("gamma", [-0.1, np.inf, np.nan])
def test_focal_loss_refuses_a_gamma_below_zero_or_without_end(gamma):
    with pytest.raises(ValueError, match="gamma must be a finite number of at least 0"):
        FocalLoss(gamma)


@dtypes
def test_smoothing_moves_labels_towards_one_half(dtype):
    y = np.array([0.0, 1.0, 0.5], dtype)
    smoothed = smooth_labels(y, 0.2)
    assert smoothed.dtype == dtype
    np.testing.assert_allclose(smoothed, [0.1, 0.9, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(smooth_labels(y, 1.0), 0.5)
    np.testing.assert_array_equal(y, np.array([0.0, 1.0, 0.5], dtype))
    assert smooth_labels(y, 0.0) is y


@given(p=st.floats(0.01, 0.99), smoothing=st.floats(0.01, 1.0))
def test_gradient_is_zero_where_the_probability_is_the_smoothed_one(p, smoothing):
    """Two rows, alike but for their labels, of which class 1 has the share p by weight."""
    y, weight = smooth_labels(np.array([0.0, 1.0]), smoothing), np.array([1.0 - p, p])
    logits = np.full(2, logit(p * (1.0 - smoothing) + 0.5 * smoothing))
    gradient = BinaryCrossEntropy().gradient(y, logits, weight)
    assert gradient.sum() == pytest.approx(0.0, abs=1e-15)


@every_loss
@given(n=n_samples, seed=seeds)
def test_weights_multiply_the_loss_and_the_gradient_of_their_rows(loss, n, seed):
    y, logits, weight = random_rows(n, seed)
    expected = (weight * loss.loss(y, logits)).mean()
    assert cost(loss, y, logits, weight) == pytest.approx(expected, rel=1e-12)
    gradient, unweighted = (loss.gradient(y, logits, w) for w in (weight, None))
    np.testing.assert_allclose(gradient, weight * unweighted, rtol=1e-12)
    ones, zeros = np.ones(n), np.zeros(n)
    np.testing.assert_array_equal(loss.gradient(y, logits, ones), unweighted)
    assert cost(loss, y, logits, ones) == cost(loss, y, logits)
    assert cost(loss, y, logits, zeros) == 0.0
    np.testing.assert_array_equal(loss.gradient(y, logits, zeros), 0.0)


@every_loss
def test_cost_goes_through_many_rows_in_blocks(loss, monkeypatch):
    """Labels and weights of one member serve all."""
    rng = np.random.default_rng(0)
    y, weight = rng.integers(0, 2, (1, 100)) * 1.0, rng.exponential(size=(1, 100))
    logits = rng.normal(size=(2, 100))
    expected = (weight * loss.loss(y, logits)).sum(axis=1)
    for n_rows in (losses.LOSSES_AT_ONCE, 7):
        monkeypatch.setattr(losses, "LOSSES_AT_ONCE", n_rows)
        np.testing.assert_allclose(loss.total(y, logits, weight), expected, rtol=1e-14)


@every_loss
def test_cost_of_float32_logits_is_summed_in_float64(loss):
    """A million losses that float32 could not add up to seven digits."""
    logits = np.full((1, 2_000_000), 1.0, np.float32)
    value = loss.total(np.zeros_like(logits), logits, None) / logits.size
    exact = float(loss.loss(np.zeros(1), np.ones(1))[0])
    assert value.dtype == np.float64
    assert value[0] == pytest.approx(exact, rel=1e-12)
