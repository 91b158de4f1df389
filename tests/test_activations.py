"""The activation functions: their values, their derivatives, and a user's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import ACTIVATION_ROWS, BUILTIN_ACTIVATION_CLASSES, Bump

from skdnn._functions import sigmoid, softplus
from skdnn._passes import NUMPY
from skdnn.activations import (
    ACTIVATIONS,
    CustomActivation,
    LeakyReLU,
    Tanh,
    make_activation,
)
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.layers import Activation

names = pytest.mark.parametrize("name", ACTIVATION_ROWS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
FAR = np.array([sign * z for z in (36.0, 88.0, 89.0, 710.0, 745.0, 1e4) for sign in (1.0, -1.0)])
GRID = np.linspace(-8.0, 8.0, 1000)  # an even number: zero, where kinks are, is not among them


def test_table_covers_every_activation():
    assert set(ACTIVATION_ROWS) == set(ACTIVATIONS)
    assert set(ACTIVATIONS.values()) == BUILTIN_ACTIVATION_CLASSES


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
def test_activation_derivative_equals_central_differences(name):
    value, step = ACTIVATION_ROWS[name].value, 1e-6
    numerical = (value(GRID + step) - value(GRID - step)) / (2.0 * step)
    np.testing.assert_allclose(ACTIVATIONS[name]().derivative(GRID), numerical, rtol=0, atol=1e-8)


@names
@dtypes
def test_activation_derivative_keeps_its_accuracy_in_float32(name, dtype):
    derivative = ACTIVATIONS[name]().derivative(GRID.astype(dtype))
    exact = ACTIVATIONS[name]().derivative(GRID)
    np.testing.assert_allclose(derivative, exact, rtol=0, atol=20 * np.finfo(dtype).eps)


@names
@dtypes
def test_activation_writes_into_the_arrays_it_is_given(name, dtype):
    """And into no others: z and y are as they were, whatever stood in the space for the work."""
    activation, z = ACTIVATIONS[name](), GRID.astype(dtype)
    y, slope, work = (np.full_like(z, np.nan) for _ in range(3))
    assert activation.value_into(z, y, work, NUMPY) is y
    np.testing.assert_array_equal(y, activation.value(z))
    y_before = y.copy()
    work.fill(np.nan)
    assert activation.derivative_into(z, y, slope, work, NUMPY) is slope
    np.testing.assert_array_equal(slope, activation.derivative(z))
    np.testing.assert_array_equal(z, GRID.astype(dtype))
    np.testing.assert_array_equal(y, y_before)


@pytest.mark.parametrize("name", [n for n, row in ACTIVATION_ROWS.items() if row.has_kink])
def test_activation_with_a_kink_has_a_one_sided_derivative_there(name):
    [at_zero, left, right] = ACTIVATIONS[name]().derivative(np.array([0.0, -1e-9, 1e-9]))
    assert at_zero == pytest.approx(left, abs=1e-8) or at_zero == pytest.approx(right, abs=1e-8)
    assert left != pytest.approx(right, abs=0.1)


def test_leaky_relu_has_the_slope_it_is_given():
    activation = LeakyReLU(negative_slope=0.2)
    np.testing.assert_allclose(activation.value(np.array([-5.0, 5.0])), [-1.0, 5.0])
    np.testing.assert_allclose(activation.derivative(np.array([-5.0, 5.0])), [0.2, 1.0])


def test_selu_keeps_mean_zero_and_variance_one():
    """The fixed point that its two constants are made for."""
    value = ACTIVATIONS["selu"]().value(np.random.default_rng(0).normal(size=1_000_000))
    assert value.mean() == pytest.approx(0.0, abs=0.005)
    assert value.var() == pytest.approx(1.0, abs=0.01)


@given(z=st.floats(-1e30, 1e30))
def test_sigmoid_and_softplus_are_finite_and_consistent(z):
    """Softplus of z and of -z differ by z, and the sigmoids of both add up to 1."""
    z = np.array([z, -z])
    out, work = np.empty_like(z), np.empty_like(z)
    a = sigmoid(z, out, np).copy()
    assert ((a >= 0.0) & (a <= 1.0)).all()
    assert a.sum() == pytest.approx(1.0, abs=1e-15)
    s = softplus(z, out, work, NUMPY)
    assert s[0] - s[1] == pytest.approx(z[0], rel=1e-15, abs=1e-15)


def test_make_activation_takes_names_functions_and_own_objects():
    bump = Bump()
    assert make_activation("tanh") == Tanh()
    assert make_activation(LeakyReLU(0.3)) == LeakyReLU(0.3)
    assert make_activation(bump) == CustomActivation(bump)


@dtypes
def test_custom_activation_runs_the_users_functions(dtype):
    bump, z = Bump(), GRID.astype(dtype)
    y, slope, work = (np.empty_like(z) for _ in range(3))
    custom = CustomActivation(bump)
    assert custom.value_into(z, y, work, NUMPY) is y
    assert custom.derivative_into(z, y, slope, work, NUMPY) is slope
    np.testing.assert_array_equal(y, bump.value(z))
    np.testing.assert_array_equal(slope, bump.derivative(z))


def test_custom_activation_has_its_place_in_a_network():
    bump = Bump()
    network = build_network(
        Architecture(3, hidden_layer_sizes=(4,), activation=(bump,), dropout=(0.0,))
    )
    assert network.layers[1] == Activation(CustomActivation(bump))
    params = network.init_params([np.random.default_rng(0)])
    X = np.random.default_rng(1).normal(size=(5, 3))
    W, V, b, c = (network.layout.view(params, name)[0] for name in network.layout.entries)
    expected = bump.value(X @ W + b) @ V + c
    np.testing.assert_allclose(network.logits(params, X)[0], expected[:, 0], rtol=1e-12)


@pytest.mark.parametrize("slope", [-0.1, 1.5, np.nan])
def test_leaky_relu_refuses_a_slope_that_is_not_between_zero_and_one(slope):
    with pytest.raises(ValueError, match="negative_slope must be in"):
        LeakyReLU(slope)
