"""The temperature by itself: of logits that are too sure, too shy, right, and without an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit
from strategies import seeds

from skdnn._calibration import LARGEST, SUREST_MEMBER, find_least_loss, fit_temperature


def overlapping(seed=0, n_samples=200):
    """Return logits of rows and their labels, which the sign of the logit often misses."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 2.0, n_samples)
    return logits, (rng.random(n_samples) < expit(logits)).astype(np.float64)


def cost(logits, y, temperature, weight=None):
    """Return the mean cross-entropy, by its definition."""
    log_p = log_expit(np.where(y == 1.0, logits, -logits) / temperature)
    return np.average(-log_p, weights=weight)


@given(seed=seeds, is_weighted=st.booleans())
def test_temperature_has_the_lowest_cross_entropy(seed, is_weighted):
    logits, y = overlapping(seed)
    weight = np.random.default_rng(seed).exponential(size=len(y)) if is_weighted else None
    found = fit_temperature(logits, y, weight)
    grid = np.geomspace(1.0 / LARGEST, LARGEST, 2_001)
    lowest = min(grid, key=lambda temperature: cost(logits, y, temperature, weight))
    assert found == pytest.approx(lowest, rel=5e-3)
    assert cost(logits, y, found, weight) <= cost(logits, y, lowest, weight) + 1e-9


@given(seed=seeds, factor=st.floats(0.2, 5.0))
def test_temperature_follows_the_scale_of_the_logits(seed, factor):
    logits, y = overlapping(seed)
    once = fit_temperature(logits, y, None)
    assert fit_temperature(factor * logits, y, None) == pytest.approx(factor * once, rel=1e-3)


@given(seed=seeds, data=st.data())
def test_weight_of_a_row_is_how_often_it_counts(seed, data):
    logits, y = overlapping(seed, 60)
    times = np.random.default_rng(data.draw(seeds)).integers(0, 4, 60)
    weighted = fit_temperature(logits, y, times.astype(np.float64))
    repeated = fit_temperature(logits.repeat(times), y.repeat(times), None)
    assert weighted == pytest.approx(repeated, rel=1e-3)


def test_weights_matter():
    logits, y = overlapping()
    is_right = (logits > 0) == (y == 1.0)
    trusting = fit_temperature(logits, y, np.where(is_right, 3.0, 1.0))
    assert trusting < 0.8 * fit_temperature(logits, y, None)


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.3])
def test_temperature_undoes_what_calibrated_logits_were_multiplied_with(factor):
    logits, y = overlapping(n_samples=40_000)
    assert fit_temperature(factor * logits, y, None) == pytest.approx(factor, rel=0.05)


def test_separable_logits_stay_finite():
    """No temperature is low enough for them: the search ends at its bound."""
    logits, y = np.array([-0.5, -0.1, 0.2, 3.0]), np.array([0.0, 0.0, 1.0, 1.0])
    assert fit_temperature(logits, y, None) == pytest.approx(1.0 / LARGEST, rel=1e-3)
    assert fit_temperature(logits[:2], y[:2], None) == pytest.approx(1.0 / LARGEST, rel=1e-3)


def test_logits_that_are_always_wrong_are_divided_by_as_much_as_there_is():
    logits, y = np.array([-0.5, -0.1, 0.2, 3.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert fit_temperature(logits, y, None) == pytest.approx(LARGEST, rel=1e-3)


def test_logits_of_zero_have_no_temperature_of_their_own():
    assert fit_temperature(np.zeros(4), np.array([0.0, 0.0, 1.0, 1.0]), None) == 1.0


def test_huge_logits_overflow_nothing():
    logits, y = 1e30 * np.array([-1.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0])
    assert 0.0 < fit_temperature(logits, y, None) <= LARGEST


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
    found = fit_temperature(single, y.astype(np.float32), None)
    assert type(found) is float
    assert found == fit_temperature(single.astype(np.float64), y, None)
