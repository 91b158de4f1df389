"""The cost on logits of any size, its gradient, and the rules for weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss
from strategies import EXTREME_LOGITS, logits_MN, seeds, shapes_MNI
from tables import LOSS_ROWS, classes_defined_in

from skdnn import losses
from skdnn.losses import BinaryCrossEntropy

rows = pytest.mark.parametrize("loss", LOSS_ROWS.values(), ids=LOSS_ROWS)


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
    assert classes_defined_in(losses, "gradient") == {type(x) for x in LOSS_ROWS.values()}


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
    assert (np.abs(gradient * logits.shape[1]) <= 1.0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
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
    y = y * (1.0 - smoothing) + 0.5 * smoothing
    value, gradient = mean_and_gradient(BinaryCrossEntropy(), y, logits)
    a = expit(logits)
    expected = -(y * np.log(a) + (1.0 - y) * np.log(1.0 - a))
    np.testing.assert_allclose(value, expected.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(gradient, (a - y) / shape[1], rtol=0, atol=1e-15)


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
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
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
