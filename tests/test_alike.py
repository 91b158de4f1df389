"""Rows that are alike: found by their values, and counted by their weights."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from scipy.sparse import csr_array

from skdnn.training.identical_rows import Alike, count_repetitions, number_alike, repeat_shared
from skdnn.training.rows import Rows

tables = numpy_st.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 12), st.integers(0, 2)),
    elements=st.sampled_from([0.0, -0.0, 1.0, -2.5]),
)


@given(tables)
def test_rows_have_the_same_number_where_they_are_equal(X):
    """Zero has no sign."""
    number = number_alike(X)
    is_same = (X[:, np.newaxis] == X).all(axis=2)
    if number is None:
        number = np.arange(len(X))
    else:
        assert set(number) == set(range(number.max() + 1))
    np.testing.assert_array_equal(number[:, np.newaxis] == number, is_same)


@given(tables)
def test_sparse_rows_are_compared_by_their_values(X):
    number, of_sparse = number_alike(X), number_alike(csr_array(X))
    if number is None:
        assert of_sparse is None
    else:
        same = number[:, np.newaxis] == number
        np.testing.assert_array_equal(of_sparse[:, np.newaxis] == of_sparse, same)


def test_sparse_rows_may_hold_zeros_and_entries_twice():
    table = csr_array(
        (np.array([1.0, 2.0, 3.0, 0.0]), np.array([0, 0, 0, 1]), np.array([0, 2, 4])), (2, 2)
    )
    before = table.data.copy()
    assert len(set(number_alike(table))) == 1
    np.testing.assert_array_equal(table.data, before)


def make_rows(x, y, weight=None):
    x = np.asarray(x, np.float64)
    weight = None if weight is None else np.asarray(weight, np.float64)
    return Rows(x[:, np.newaxis], np.asarray(y, np.float64), weight)


MANY = np.arange(100.0, 120.0)
"""Values enough for x not to be few."""


def test_copies_are_units_where_x_bears_both_labels():
    x = [*MANY, 1, 1, 2, 2, 3]
    alike = Alike.find(make_rows(x, [0] * 20 + [0, 1, 1, 1, 0]))
    assert alike.is_shared[20:].tolist() == [True, True, False, False, False]
    assert alike.is_single[20:].tolist() == [True, True, False, False, True]
    assert alike.first[20:].tolist() == [20, 20, 22, 22, 24]
    assert not alike.is_shared[:20].any()


@pytest.mark.parametrize("n_distinct", [2, 15, 16])
def test_copies_are_units_where_few_x_are_distinct(n_distinct):
    x = np.arange(n_distinct).repeat(3)
    alike = Alike.find(make_rows(x, x % 2))
    assert alike.has_few_x == (n_distinct < 16)
    assert (alike.is_shared == alike.has_few_x).all()


@pytest.mark.parametrize("is_counted", [False, True])
@pytest.mark.parametrize(
    ("n_distinct", "n_copies", "is_shared"),
    [(16, 7, False), (16, 8, True), (64, 8, True), (65, 20, False)],
)
def test_copies_are_units_where_some_x_stand_there_often(
    n_distinct, n_copies, is_shared, is_counted
):
    """As rows, or counted by weights in whatever unit."""
    rng = np.random.default_rng(0)
    others = rng.integers(0, n_distinct, n_distinct * (n_copies - 1))
    x = np.concatenate([np.arange(n_distinct), others])
    rows = make_rows(x, x % 2)
    if is_counted:
        rows = rows.merge_identical()
        rows = replace(rows, sample_weight=rows.sample_weight * 0.3)
    alike = Alike.find(rows)
    assert (alike is not None and alike.is_shared.all()) == is_shared


def test_rows_that_are_many_and_different_are_not_looked_at_twice():
    assert Alike.find(make_rows(np.arange(65), np.arange(65) % 2)) is None


@pytest.mark.parametrize("is_sparse", [False, True])
def test_numbers_go_by_the_order_of_rows(is_sparse):
    """And not by hashes, which are not the same in another process."""
    X = np.arange(7.0, 0.0, -1.0).repeat(2)[:, np.newaxis]
    number = number_alike(csr_array(X) if is_sparse else X)
    np.testing.assert_array_equal(number, np.arange(7).repeat(2))


@given(
    counts=st.lists(st.integers(1, 500), min_size=2, max_size=12),
    factor=st.floats(1e-30, 1e30),
    class_weight=st.floats(1e-3, 1e3),
)
def test_weights_are_counted_in_their_own_unit(counts, factor, class_weight):
    """Of each class by itself: class weights change no number of rows."""
    counts = np.array([1, *counts, 1, *counts])
    y = np.arange(len(counts)) >= len(counts) // 2
    weight = counts * factor * np.where(y, class_weight, 1.0)
    rows = make_rows(np.arange(len(y)), y, weight)
    np.testing.assert_array_equal(count_repetitions(rows, np.ones(len(y), bool)), counts)


def test_table_counted_twice_is_the_table():
    rows = make_rows([0, 0, 1, 1], [0, 1, 0, 1], [2, 4, 6, 8])
    assert count_repetitions(rows, np.ones(4, bool)).tolist() == [1, 1, 3, 2]


def test_weights_without_a_unit_count_a_row_that_has_no_other_like_it():
    weight = np.random.default_rng(0).exponential(size=8)
    is_single = np.arange(8) % 2 == 0
    rows = make_rows(np.arange(8), np.zeros(8), weight)
    assert count_repetitions(rows, is_single).tolist() == [0, 1] * 4


def test_repeating_takes_back_what_merging_did_to_observations():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, 200), rng.integers(0, 2, 200)
    merged = make_rows(x, y).merge_identical()
    repeated = repeat_shared(merged, 1_000)
    assert (len(merged), len(repeated)) == (6, 200)
    assert (repeated.sample_weight == 1.0).all()
    order = np.lexsort([y, x])
    np.testing.assert_array_equal(repeated.X[:, 0], x[order])
    np.testing.assert_array_equal(repeated.y, y[order])
    np.testing.assert_array_equal(repeated.X[repeated.place, 0], x)
    np.testing.assert_array_equal(
        repeated.logit_index, np.arange(6).repeat(merged.sample_weight.astype(int))
    )


def test_more_copies_than_there_is_room_for_have_parts_of_the_weight():
    weights = [1e6, 3e6, 1e6, 5.0]
    rows = repeat_shared(make_rows([0, 1, 0, 1], [0, 1, 1, 0], weights), 1_000)
    assert 990 <= len(rows) <= 1_010
    np.testing.assert_allclose(np.bincount(rows.logit_index, rows.sample_weight), weights)


def test_copies_that_tell_nothing_new_stay_merged():
    rows = make_rows(MANY, MANY % 2, np.arange(1, 21) % 7 + 1)
    assert repeat_shared(rows, 1_000) is rows
