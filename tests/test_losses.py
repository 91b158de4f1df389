"""The cost on logits of any size, its gradient, and the rules for weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import log_loss
from strategies import EXTREME_LOGITS, logits_MN, seeds, shapes_MNI
from tables import LOSS_ROWS, classes_defined_in

from skdnn import losses
from skdnn.losses import (
    LOSSES,
    BinaryCrossEntropy,
    FocalLoss,
    Loss,
    make_loss,
    smooth_labels,
)

rows = pytest.mark.parametrize("loss", LOSS_ROWS.values(), ids=LOSS_ROWS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def mean_and_gradient(loss, y, logits, weight=None):
    """Run both ways of a loss, into space full of rubbish, which must not show."""
    gradient_out = np.full_like(logits, np.nan)
    assert loss.gradient(y, logits, weight, gradient_out) is gradient_out
    return loss.mean(y, logits, weight), gradient_out


def random_rows(shape, seed):
    """Return labels, logits and weights for (n_members, n_samples, _)."""
    rng = np.random.default_rng(seed)
    size = shape[:2]
    y = rng.integers(0, 2, size).astype(np.float64)
    return y, rng.normal(0.0, 3.0, size), rng.exponential(size=size)


def test_table_covers_every_loss():
    classes = classes_defined_in(losses, "gradient") - {Loss}
    assert {type(loss) for loss in LOSS_ROWS.values()} == classes
    assert {type(make_loss(name, focal_gamma=2.0)) for name in LOSSES} == classes


def largest_slope(loss):
    """Return a bound of the derivative by the logit; ``(1 - a) softplus(z)`` is at most 1/e."""
    return 1.0 + getattr(loss, "gamma", 0.0) / np.e


@rows
@given(data=st.data(), logits=logits_MN())
def test_loss_is_finite_and_its_gradient_bounded_for_logits_of_any_size(loss, data, logits):
    """Warnings are errors here: nothing overflows on the way either."""
    label = st.sampled_from([0.0, 1.0])
    size = {"min_size": logits.shape[1], "max_size": logits.shape[1]}
    y = np.array([data.draw(st.lists(label, **size))])
    value, gradient = mean_and_gradient(loss, y, logits)
    assert value.shape == (len(logits),)
    assert np.isfinite(value).all()
    assert (value >= 0.0).all()
    assert (np.abs(gradient * logits.shape[1]) <= largest_slope(loss)).all()


@rows
@dtypes
@pytest.mark.parametrize("y", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("size", [1e4, 1e30, "largest"])
def test_loss_is_linear_in_extreme_logits_that_are_wrong(loss, dtype, y, size):
    """The share of a label in y times |z| where the answer is wrong, and nothing where right."""
    size = float(np.finfo(dtype).max) if size == "largest" else size
    logits, y = np.array([[size, -size]], dtype), np.array([[y, y]], dtype)
    value = loss.losses(y, logits)
    _, gradient = mean_and_gradient(loss, y, logits)
    share, eps = np.array([[1.0 - y[0, 0], y[0, 0]]]), float(np.finfo(dtype).eps)
    np.testing.assert_allclose(value / dtype(size), share, rtol=4 * eps, atol=eps)
    np.testing.assert_allclose(2.0 * gradient, share * [[1.0, -1.0]], rtol=4 * eps, atol=eps)


@dtypes
@pytest.mark.parametrize("z", EXTREME_LOGITS)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_binary_cross_entropy_is_right_on_one_extreme_logit(y, z, dtype):
    """``log(1 + e^z) - y z``, which is |z| where the answer is wrong and 0 where it is right."""
    z = dtype(z)
    [value], [[gradient]] = mean_and_gradient(
        BinaryCrossEntropy(), np.array([[y]], dtype), np.array([[z]])
    )
    eps = float(np.finfo(dtype).eps)
    signed = np.float64(z) * (1.0 - 2.0 * y)  # positive where the answer is wrong
    assert value == pytest.approx(np.logaddexp(0.0, signed), rel=1e-15, abs=1e-14)
    assert gradient == pytest.approx(float(expit(np.float64(z))) - y, rel=4 * eps, abs=eps)


@given(shape=shapes_MNI, seed=seeds)
def test_binary_cross_entropy_equals_scikit_learns_log_loss(shape, seed):
    """With weights of mean 1; scikit-learn divides by their sum."""
    y, logits, weight = random_rows(shape, seed)
    weight /= weight.mean(axis=1, keepdims=True)
    value, _ = mean_and_gradient(BinaryCrossEntropy(), y, logits, weight)
    expected = [
        log_loss(*member[:2], sample_weight=member[2], labels=[0, 1])
        for member in zip(y, expit(logits), weight, strict=True)
    ]
    np.testing.assert_allclose(value, expected, rtol=1e-10)


@given(shape=shapes_MNI, seed=seeds, smoothing=st.floats(0.0, 0.5))
def test_binary_cross_entropy_takes_labels_between_zero_and_one(shape, seed, smoothing):
    y, logits, _ = random_rows(shape, seed)
    y = smooth_labels(y, smoothing)
    value, gradient = mean_and_gradient(BinaryCrossEntropy(), y, logits)
    a = expit(logits)
    expected = -(y * np.log(a) + (1.0 - y) * np.log(1.0 - a))
    np.testing.assert_allclose(value, expected.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(gradient, (a - y) / shape[1], rtol=0, atol=1e-15)


@given(shape=shapes_MNI, seed=seeds, smoothing=st.floats(0.0, 1.0))
def test_focal_loss_without_gamma_equals_binary_cross_entropy(shape, seed, smoothing):
    y, logits, weight = random_rows(shape, seed)
    y = smooth_labels(y, smoothing)
    value, gradient = mean_and_gradient(FocalLoss(0.0), y, logits, weight)
    expected, expected_gradient = mean_and_gradient(BinaryCrossEntropy(), y, logits, weight)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-15 * weight.max())


@given(shape=shapes_MNI, seed=seeds, gamma=st.floats(0.0, 5.0), smoothing=st.floats(0.0, 1.0))
def test_focal_loss_is_cross_entropy_times_powers_of_the_error(shape, seed, gamma, smoothing):
    """By the formula of the paper, in probabilities."""
    y, logits, _ = random_rows(shape, seed)
    y, a = smooth_labels(y, smoothing), expit(logits)
    expected = -y * (1.0 - a) ** gamma * np.log(a) - (1.0 - y) * a**gamma * np.log(1.0 - a)
    np.testing.assert_allclose(FocalLoss(gamma).losses(y, logits), expected, rtol=1e-8)


@dtypes
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_gradient_of_rows_answered_well_is_small_and_exact(gamma, dtype):
    """Where ``1 - a`` is e, it is ``-e^gamma (e + gamma e)``: far below the rounding of a."""
    z = 12.0
    _, gradient = mean_and_gradient(
        FocalLoss(gamma), np.array([[1.0, 0.0]], dtype), np.array([[z, -z]], dtype)
    )
    expected = (1.0 + gamma) * np.exp(-z * (1.0 + gamma)) / 2.0
    np.testing.assert_allclose(gradient, [[-expected, expected]], rtol=1e-4)


@pytest.mark.parametrize("gamma", [-0.1, np.inf, np.nan])
def test_focal_loss_refuses_a_gamma_below_zero_or_without_end(gamma):
    with pytest.raises(ValueError, match="gamma must be a finite number of at least 0"):
        FocalLoss(gamma)


def test_make_loss_hands_gamma_to_the_focal_loss_alone():
    assert make_loss("log_loss", focal_gamma=3) == BinaryCrossEntropy()
    assert make_loss("focal", focal_gamma=3) == FocalLoss(3.0)


@dtypes
def test_smoothing_moves_labels_towards_one_half(dtype):
    y = np.array([0.0, 1.0, 0.5], dtype)
    smoothed = smooth_labels(y, 0.2)
    assert smoothed.dtype == dtype
    np.testing.assert_allclose(smoothed, [0.1, 0.9, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(smooth_labels(y, 1.0), 0.5)
    np.testing.assert_array_equal(y, np.array([0.0, 1.0, 0.5], dtype))


def test_smoothing_of_zero_returns_the_labels_themselves():
    y = np.array([0.0, 1.0])
    assert smooth_labels(y, 0.0) is y


@given(p=st.floats(0.01, 0.99), smoothing=st.floats(0.01, 1.0))
def test_gradient_is_zero_where_the_probability_is_the_smoothed_one(p, smoothing):
    """Two rows, alike but for their labels, of which class 1 has the share p by weight."""
    y, weight = smooth_labels(np.array([[0.0, 1.0]]), smoothing), np.array([[1.0 - p, p]])
    logits = np.full((1, 2), logit(p * (1.0 - smoothing) + 0.5 * smoothing))
    _, gradient = mean_and_gradient(BinaryCrossEntropy(), y, logits, weight)
    assert gradient.sum() == pytest.approx(0.0, abs=1e-15)


@rows
@given(shape=shapes_MNI, seed=seeds)
def test_weights_multiply_the_loss_and_the_gradient_of_their_rows(loss, shape, seed):
    y, logits, weight = random_rows(shape, seed)
    value, gradient = mean_and_gradient(loss, y, logits, weight)
    _, unweighted = mean_and_gradient(loss, y, logits)
    expected = (weight * loss.losses(y, logits)).mean(axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, weight * unweighted, rtol=1e-12)


@rows
@given(shape=shapes_MNI, seed=seeds)
def test_no_weights_are_weights_of_one_to_the_bit(loss, shape, seed):
    y, logits, weight = random_rows(shape, seed)
    for one, other in zip(
        mean_and_gradient(loss, y, logits),
        mean_and_gradient(loss, y, logits, np.ones_like(weight)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@rows
@given(shape=shapes_MNI, seed=seeds)
def test_batch_without_weight_has_no_effect(loss, shape, seed):
    y, logits, weight = random_rows(shape, seed)
    value, gradient = mean_and_gradient(loss, y, logits, np.zeros_like(weight))
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)


@rows
@given(shape=shapes_MNI, seed=seeds)
def test_labels_and_weights_of_one_member_serve_all(loss, shape, seed):
    y, logits, weight = random_rows(shape, seed)
    shared = mean_and_gradient(loss, y[:1], logits, weight[:1])
    copies = [np.repeat(array[:1], len(logits), axis=0) for array in (y, weight)]
    repeated = mean_and_gradient(loss, copies[0], logits, copies[1])
    np.testing.assert_array_equal(shared[0], repeated[0])
    np.testing.assert_array_equal(shared[1], repeated[1])


@rows
@dtypes
def test_loss_leaves_its_arguments_as_they_are_and_keeps_the_dtype(loss, dtype):
    arguments = [array.astype(dtype) for array in random_rows((2, 5, 1), 0)]
    before = [array.copy() for array in arguments]
    losses = loss.losses(*arguments[:2])
    value, _ = mean_and_gradient(loss, *arguments)
    for array, as_it_was in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, as_it_was)
    assert losses.dtype == dtype
    assert value.dtype == np.float64


@rows
def test_mean_loss_goes_through_many_rows_in_blocks(loss, monkeypatch):
    y, logits, weight = random_rows((2, 100, 1), 0)
    in_one = loss.mean(y, logits, weight)
    monkeypatch.setattr(losses, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(loss.mean(y, logits, weight), in_one, rtol=1e-14)
    np.testing.assert_allclose(
        loss.mean(y[:1], logits, weight[:1]),
        loss.mean(np.repeat(y[:1], 2, axis=0), logits, np.repeat(weight[:1], 2, axis=0)),
        rtol=1e-14,
    )


@rows
def test_mean_loss_of_float32_logits_is_summed_in_float64(loss):
    """A million losses that float32 could not add up to seven digits."""
    logits = np.full((1, 2_000_000), 1.0, np.float32)
    y = np.zeros_like(logits)
    exact = float(loss.losses(np.zeros((1, 1)), np.ones((1, 1)))[0, 0])
    assert loss.mean(y, logits, None)[0] == pytest.approx(exact, rel=1e-12)
