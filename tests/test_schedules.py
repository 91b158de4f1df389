"""The multiplier of the learning rate through a fit, at the points where it is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from tables import SCHEDULE_ROWS, classes_defined_in, pose_training

from skdnn import schedules
from skdnn._training import train
from skdnn.schedules import SCHEDULES, Constant, Cosine, CosLog4, OneCycle, make_schedule
from skdnn.training.rows import Rows

names = pytest.mark.parametrize("name", SCHEDULE_ROWS)


def curve(schedule, total):
    """Return the multiplier at every step of a fit."""
    return np.array([schedule(done, total) for done in range(total)])


def test_table_covers_every_schedule():
    assert set(SCHEDULE_ROWS) == set(SCHEDULES)
    made = {type(make_schedule(name)) for name in SCHEDULES}
    assert made == classes_defined_in(schedules, "__call__")


@names
def test_schedule_says_what_it_counts_and_whether_it_needs_the_end(name):
    schedule = make_schedule(name)
    assert (schedule.counts, schedule.needs_horizon) == SCHEDULE_ROWS[name]


@names
@given(st.data(), st.integers(1, 10**6))
def test_schedule_stays_between_zero_and_one(name, data, total):
    multiplier = make_schedule(name)(data.draw(st.integers(0, total - 1)), total)
    assert type(multiplier) is float
    assert 0.0 <= multiplier <= 1.0


@names
@pytest.mark.parametrize("total", range(1, 31))
def test_schedule_is_finite_at_every_step_of_a_short_fit(name, total):
    multipliers = curve(make_schedule(name), total)
    assert ((multipliers >= 0.0) & (multipliers <= 1.0)).all()


@names
@pytest.mark.parametrize("total", [100, 1000])
def test_schedule_spends_most_of_the_fit_learning(name, total):
    """The largest multiplier is 1 to within a step; no fit is spent at a rate of zero."""
    multipliers = curve(make_schedule(name), total)
    assert multipliers.max() > 1.0 - 20.0 / total
    assert (multipliers > 0.0).mean() >= 1.0 - 2.0 / total


@pytest.mark.parametrize("name", ["constant", "adaptive"])
def test_constant_and_adaptive_leave_the_rate_alone(name):
    assert make_schedule(name) == Constant()
    assert set(curve(Constant(), 50)) == {1.0}


@given(done=st.integers(0, 10**7), power=st.floats(0.0, 2.0))
def test_invscaling_divides_by_a_power_of_the_samples_seen(done, power):
    multiplier = make_schedule("invscaling", power)(done, 1)
    assert multiplier == pytest.approx(1.0 / (done + 1) ** power, rel=1e-12)


def test_cosine_rises_linearly_and_falls_to_zero():
    multipliers = curve(Cosine(warmup=0.1), 1000)
    warm, cool = multipliers[:100], multipliers[100:]
    np.testing.assert_allclose(np.diff(warm), np.diff(warm)[0], rtol=1e-9)
    assert warm[0] == pytest.approx(1 / 101)
    assert cool[0] == 1.0
    assert (np.diff(cool) < 0).all()
    assert Cosine(warmup=0.1)(1000, 1000) == pytest.approx(0.0, abs=1e-15)


def test_cosine_follows_half_a_cosine_after_the_warm_up():
    schedule = Cosine(warmup=0.2)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        done = round(1000 * (0.2 + 0.8 * share))
        assert schedule(done, 1000) == pytest.approx((1 + math.cos(math.pi * share)) / 2, abs=1e-12)


def test_cosine_without_warm_up_starts_at_one():
    assert Cosine(warmup=0.0)(0, 10) == 1.0


def test_one_cycle_rises_to_one_and_falls_to_almost_nothing():
    multipliers = curve(OneCycle(), 1000)
    assert multipliers[0] == pytest.approx(1 / 25)
    assert multipliers[299] == 1.0
    assert multipliers[-1] == pytest.approx(4e-6)
    assert (np.diff(multipliers[:300]) > 0).all()
    assert (np.diff(multipliers[299:]) < 0).all()


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.parametrize("total", [4, 10, 37, 1000])
def test_one_cycle_equals_pytorchs(total):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's OneCycleLR")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, cycle_momentum=False
    )
    expected = []
    for step in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        if step < total - 1:
            scheduler.step()
    np.testing.assert_allclose(curve(OneCycle(), total), expected, rtol=1e-10)


def test_coslog4_is_zero_where_its_four_cycles_meet():
    """At t = 0, 1/15, 1/5, 7/15 and 1; and at 1 in the middle of each, on the logarithmic scale."""
    total = 15 * 10**6
    for cycle in range(5):
        done = (2**cycle - 1) * total // 15
        assert CosLog4()(done, total) == pytest.approx(0.0, abs=1e-12)
    for cycle in range(4):
        done = round((2 ** (cycle + 0.5) - 1) * total / 15)
        assert CosLog4()(done, total) == pytest.approx(1.0, abs=1e-10)


def test_coslog4_swings_up_and_down_four_times():
    rises = np.diff(curve(CosLog4(), 3000)) > 0
    assert rises[0]
    assert np.count_nonzero(rises[1:] != rises[:-1]) == 7


@names
def test_schedule_is_what_training_follows(name):
    """The history has the multiplier of the last step of each epoch, times the first rate."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(size=(30, 2)), np.arange(30) % 2.0)
    plan, state = pose_training(
        rows, learning_rate=name, learning_rate_init=0.01, batch_size=10, max_iter=4, power_t=0.3
    )
    train(plan, state, rows)
    counts, _ = SCHEDULE_ROWS[name]
    last = [2, 5, 8, 11] if counts == "steps" else [0, 30, 60, 90]
    expected = [0.01 * make_schedule(name, 0.3)(done, 12) for done in last]
    np.testing.assert_allclose(state.history["learning_rate"], expected, rtol=1e-12)


@given(seeds)
def test_invscaling_counts_samples_and_not_batches(seed):
    """As in MLPClassifier: with batches of any size the rate of an epoch is the same."""
    rng = np.random.default_rng(seed)
    rows = Rows(rng.normal(size=(20, 2)), np.arange(20) % 2.0)
    rates = []
    for batch_size in (3, 20):
        plan, state = pose_training(
            rows, learning_rate="invscaling", batch_size=batch_size, max_iter=3
        )
        train(plan, state, rows)
        rates.append(state.history["learning_rate"])
    assert rates[0] == rates[1]
