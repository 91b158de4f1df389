"""The temperature by itself: of logits that are too sure, too shy, right, and without an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit
from strategies import seeds

from skdnn.training.calibration import (
    LARGEST_TEMPERATURE,
    PRIOR_SPREAD,
    count_evidence,
    fit_temperature,
    relative_size,
)
from skdnn.training.validation import SUREST_MEMBER, find_least_loss

MANY = 1e9
"""Rows that leave the prior nothing to say."""


def overlapping(seed=0, n_samples=200):
    """Return logits of rows and their labels, which the sign of the logit often misses."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 2.0, n_samples)
    return logits, (rng.random(n_samples) < expit(logits)).astype(np.float64)


def cost(logits, y, temperature, weight=None):
    """Return the mean cross-entropy, by its definition."""
    log_p = log_expit(np.where(y == 1.0, logits, -logits) / temperature)
    return np.average(-log_p, weights=weight)


def posterior(logits, y, temperature, weight, n_rows):
    """Return what the temperature minimises, by its definition."""
    prior = np.log(temperature) ** 2 / (2.0 * PRIOR_SPREAD**2)
    return n_rows * cost(logits, y, temperature, weight) + prior


@given(seed=seeds, is_weighted=st.booleans(), n_rows=st.sampled_from([1.0, 10.0, 200.0, 1e6]))
def test_temperature_has_the_lowest_cross_entropy_beside_its_prior(seed, is_weighted, n_rows):
    logits, y = overlapping(seed)
    weight = np.random.default_rng(seed).exponential(size=len(y)) if is_weighted else None
    found = fit_temperature(logits, y, weight, n_rows)
    grid = np.geomspace(1.0 / LARGEST_TEMPERATURE, LARGEST_TEMPERATURE, 2_001)
    lowest = min(grid, key=lambda temperature: posterior(logits, y, temperature, weight, n_rows))
    assert found == pytest.approx(lowest, rel=5e-3)


@given(seed=seeds, factor=st.floats(0.2, 5.0))
def test_temperature_follows_the_scale_of_the_logits_of_many_rows(seed, factor):
    logits, y = overlapping(seed)
    once = fit_temperature(logits, y, None, MANY)
    assert fit_temperature(factor * logits, y, None, MANY) == pytest.approx(factor * once, rel=1e-3)


@given(seed=seeds, data=st.data())
def test_weight_of_a_row_is_how_often_it_counts_in_the_loss(seed, data):
    logits, y = overlapping(seed, 60)
    times = np.random.default_rng(data.draw(seeds)).integers(0, 4, 60)
    weighted = fit_temperature(logits, y, times.astype(np.float64), 60.0)
    repeated = fit_temperature(logits.repeat(times), y.repeat(times), None, 60.0)
    assert weighted == pytest.approx(repeated, rel=1e-3)


@given(
    weight=st.lists(st.floats(0.01, 100.0), min_size=1, max_size=20),
    exponent=st.integers(-300, 300),
)
def test_evidence_has_no_scale_and_is_no_more_than_the_rows(weight, exponent):
    weight, copies = np.array(weight), np.ones(len(weight))
    evidence = count_evidence(weight * 10.0**exponent, copies)
    assert evidence == pytest.approx(count_evidence(weight, copies))
    assert evidence * (1.0 + 1e-9) >= 1.0
    assert evidence <= len(weight) * (1.0 + 1e-9)
    assert count_evidence(np.ones(len(weight)), copies) == pytest.approx(len(weight))


def test_evidence_of_merged_rows_is_that_of_the_rows():
    copies = np.array([1, 5, 2])
    assert count_evidence(3.0 * copies, copies) == pytest.approx(8.0)
    weight = np.array([1.0, 2.0, 0.5])
    apart = count_evidence((weight / copies).repeat(copies), np.ones(8))
    assert count_evidence(weight, copies) == pytest.approx(apart)


def test_logits_of_an_average_have_their_size():
    """Members that differ are surer than their average; zeros have no size."""
    logits = np.random.default_rng(0).normal(size=50)
    by_one = np.eye(2, dtype=bool)[:, np.arange(50) % 2]
    assert relative_size(np.stack([logits, logits]), by_one) == pytest.approx(1.0)
    assert relative_size(np.stack([logits, -logits]), by_one) == pytest.approx(0.0, abs=1e-6)
    assert relative_size(np.stack([logits, 1e-6 * logits]), by_one) < 0.8
    assert relative_size(np.stack([logits, -logits]), by_one | True) == pytest.approx(1.0)
    assert relative_size(np.zeros((2, 50)), by_one) == 1.0


def test_weights_matter():
    logits, y = overlapping()
    is_right = (logits > 0) == (y == 1.0)
    trusting = fit_temperature(logits, y, np.where(is_right, 3.0, 1.0), MANY)
    assert trusting < 0.8 * fit_temperature(logits, y, None, MANY)


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.3])
def test_temperature_undoes_what_calibrated_logits_were_multiplied_with(factor):
    logits, y = overlapping(n_samples=40_000)
    found = fit_temperature(factor * logits, y, None, len(y))
    assert found == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("n_rows", [4, 10, 40])
@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_few_rows_that_are_all_right_say_little(n_rows, size):
    """By themselves they would have the lowest temperature there is."""
    y = np.arange(n_rows) % 2
    logits = size * (2.0 * y - 1.0) * np.linspace(0.5, 2.0, n_rows)
    assert 0.45 < fit_temperature(logits, y, None, n_rows) <= 1.0


def test_few_rows_that_are_all_wrong_say_little():
    logits, y = np.array([-0.5, -0.1, 0.2, 3.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert 1.0 < fit_temperature(logits, y, None, 4) < 1.5
    assert fit_temperature(logits, y, None, MANY) == pytest.approx(LARGEST_TEMPERATURE, rel=1e-3)


def test_logits_that_overflowed_say_nothing_of_the_size_of_the_average():
    by_one = np.eye(2, dtype=bool)
    assert relative_size(np.array([[1.0, np.inf], [1.0, np.inf]]), by_one) == 1.0
    assert relative_size(np.array([[1.0, 1.0], [1.0, np.inf]]), by_one) == 1.0


def test_logits_of_zero_have_no_temperature_of_their_own():
    assert fit_temperature(np.zeros(4), np.array([0.0, 0.0, 1.0, 1.0]), None, 4) == 1.0


def test_huge_logits_overflow_nothing():
    logits, y = 1e30 * np.array([-1.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0])
    assert 0.0 < fit_temperature(logits, y, None, 3) <= LARGEST_TEMPERATURE


@pytest.mark.parametrize(
    ("factor", "temperature"), [(0.5, 1.0), (1.0, 1.0), (1.5, 1.5), (4.0, SUREST_MEMBER)]
)
def test_least_loss_forgives_members_overconfidence_up_to_a_bound(factor, temperature):
    """And never that they are too unsure."""
    logits, y = overlapping(n_samples=40_000)
    found = find_least_loss(lambda share: cost(factor * logits, y, 1.0 / share))
    assert found == pytest.approx(cost(factor * logits, y, temperature), rel=1e-3)
    assert found <= cost(factor * logits, y, 1.0)


def test_least_loss_is_among_those_that_it_was_shown():
    seen = []

    def loss(share):
        seen.append((share - 0.7) ** 2)
        return seen[-1]

    assert find_least_loss(loss) == min(seen)
    assert find_least_loss(lambda share: -share) == -1.0


def test_float32_is_judged_in_float64():
    logits, y = overlapping()
    single = logits.astype(np.float32)
    found = fit_temperature(single, y.astype(np.float32), None, 200)
    assert type(found) is float
    assert found == fit_temperature(single.astype(np.float64), y, None, 200)
