"""Rows and their weights: merging, normalising, and the split for validation."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from scipy.sparse import csr_array, csr_matrix
from strategies import labels_N, seeds, weights_N

from skdnn.training.rows import Rows


@st.composite
def rows_N(draw, max_size=20):  # noqa: N802 - the shape ends the name
    """Up to twenty rows of a few small integers, so that some are identical; weights or none."""
    n_samples = draw(st.integers(1, max_size))
    X = draw(
        numpy_st.arrays(np.float64, (n_samples, 2), elements=st.sampled_from([0.0, 1.0, -2.5]))
    )
    return Rows(X, draw(labels_N(n_samples)), draw(weights_N(n_samples)))


def weight_by_row(rows):
    """Return the total weight of each distinct row with its label."""
    total = Counter()
    weight = np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight
    for x, label, w in zip(rows.X.tolist(), rows.y.tolist(), weight.tolist(), strict=True):
        total[*x, label] += w
    return dict(total)


def assert_same(one, other):
    """Two sets of rows are equal to the bit, and so are the dtypes."""
    for name in ("X", "y", "sample_weight"):
        array, expected = getattr(one, name), getattr(other, name)
        assert (array is None) == (expected is None)
        if array is not None:
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


@given(rows_N())
def test_merge_copies_sums_the_weights_of_each_distinct_row(rows):
    merged = rows.merge_copies()
    assert weight_by_row(merged) == pytest.approx(weight_by_row(rows))
    if len(merged) > len(weight_by_row(rows)):  # equal rows are observations
        n_distinct, n_different = len(np.unique(rows.X, axis=0)), len(weight_by_row(rows))
        assert len(merged) >= 5 * n_distinct or n_different > n_distinct


@given(rows_N(), seeds)
def test_merge_copies_does_not_depend_on_the_order(rows, seed):
    shuffled = rows.take(np.random.default_rng(seed).permutation(len(rows)))
    one, other = rows.merge_copies(), shuffled.merge_copies()
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_allclose(one.sample_weight, other.sample_weight, rtol=1e-12)


@given(rows_N(), st.data())
def test_merge_copies_makes_weight_k_and_k_rows_the_same(rows, data):
    """To the last bit."""
    size = len(rows)
    times = np.array(data.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size)))
    weighted = Rows(rows.X, rows.y, times.astype(np.float64)).merge_copies()
    repeated = Rows(rows.X, rows.y).take(np.repeat(np.arange(size), times)).merge_copies()
    assert_same(weighted, repeated)


def test_merge_copies_keeps_rows_apart_that_differ_in_the_label_only():
    X = np.repeat(np.arange(20.0), 3)[:, np.newaxis]
    y = np.append(np.zeros(58), [1.0, 1.0])
    merged = Rows(X, y).merge_copies()
    assert len(merged) == 21
    assert weight_by_row(merged) == {(x, 0.0): 3.0 for x in range(19)} | {
        (19.0, 0.0): 1.0,
        (19.0, 1.0): 2.0,
    }


def test_merge_copies_leaves_observations_as_they_are():
    """Where many x bear both labels, and whatever their number is."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.integers(0, 80, (200, 1)) * 1.0, rng.integers(0, 2, 200) * 1.0)
    assert len(rows.merge_copies()) == 200
    assert len(Rows(rows.X, rows.X[:, 0] % 2).merge_copies()) == len(np.unique(rows.X))


def test_merge_copies_keeps_the_dtype_and_a_layout_that_is_fast():
    rows = Rows(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.ones(3, np.float32))
    merged = rows.merge_copies()
    assert merged.X.dtype == merged.y.dtype == np.float32
    assert merged.X.flags.c_contiguous
    assert merged.y.flags.c_contiguous


@pytest.mark.parametrize("make_table", [np.asarray, csr_array])
def test_merge_copies_compares_values(make_table):
    """Zero has no sign, and the columns of a row of a sparse table any order."""
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    rows = Rows(make_table(X), np.zeros(5)).merge_copies()
    assert Counter(rows.sample_weight) == {3.0: 1, 1.0: 2}
    assert len(set(rows.place[[0, 1, 3]])) == 1


def test_sparse_rows_may_hold_zeros_and_entries_twice():
    table = csr_array(
        (np.array([1.0, 2.0, 3.0, 0.0]), np.array([0, 0, 0, 1]), np.array([0, 2, 4])), (2, 2)
    )
    before = table.data.copy()
    assert len(Rows(table, np.zeros(2)).merge_copies()) == 1
    np.testing.assert_array_equal(table.data, before)


@given(rows_N())
def test_normalize_weights_gives_them_mean_one_and_keeps_their_ratios(rows):
    assume(rows.weights.sum() > 0)  # a fit has refused such rows before
    normalized = rows.normalize_weights()
    if rows.sample_weight is None or np.ptp(rows.sample_weight) == 0.0:
        assert normalized.sample_weight is None
    else:
        assert normalized.sample_weight.mean() == pytest.approx(1.0)
        ratio = normalized.sample_weight * rows.sample_weight.mean()
        np.testing.assert_allclose(ratio, rows.sample_weight, rtol=1e-12)


@pytest.mark.parametrize("weight", [1.0, 3.0, 1e-8])
def test_normalize_weights_makes_equal_weights_no_weights(weight):
    rows = Rows(np.ones((4, 1)), np.zeros(4), np.full(4, weight))
    assert rows.normalize_weights().sample_weight is None


def test_normalize_weights_takes_the_mean_of_float32_in_float64():
    weight = np.ones(100, np.float32)
    weight[0] = 1e8
    normalized = Rows(np.ones((100, 1), np.float32), np.zeros(100, np.float32), weight)
    normalized = normalized.normalize_weights().sample_weight
    assert normalized.dtype == np.float32
    assert normalized[1] == np.float32(100 / (1e8 + 99))


@given(rows_N())
def test_drop_weightless_leaves_the_rows_that_count(rows):
    kept = rows.drop_weightless()
    if rows.sample_weight is None:
        assert kept is rows
    else:
        counts = rows.sample_weight > 0
        assert_same(kept, Rows(rows.X[counts], rows.y[counts], rows.sample_weight[counts]))


# Where rows of the table come to stand.


STEPS = {
    "drop": Rows.drop_weightless,
    "merge": Rows.merge_copies,
    "reverse": lambda rows: rows.take(np.arange(len(rows))[::-1]),
    "take": lambda rows: rows.take(np.arange(len(rows) // 2, len(rows))),
    "scale": Rows.normalize_weights,
}


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("names", list(permutations(STEPS, 2)), ids=" ".join)
def test_place_leads_from_each_given_row_to_its_values(names, is_sparse):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (12, 2)).astype(np.float64)
    given_rows = Rows(csr_matrix(X) if is_sparse else X, X[:, 0], rng.integers(0, 3, 12) * 1.0)
    assert given_rows.place is None
    rows = STEPS[names[1]](STEPS[names[0]](given_rows))
    place = np.arange(12) if rows.place is None else rows.place
    assert set(place) - {-1} == set(range(len(rows)))
    is_here = place >= 0
    X_here = rows.X.toarray() if is_sparse else rows.X
    np.testing.assert_array_equal(X_here[place[is_here]], X[is_here])
    np.testing.assert_array_equal(rows.y[place[is_here]], X[is_here, 0])
    if "take" not in names:
        assert (given_rows.sample_weight[~is_here] == 0.0).all()


def test_place_of_a_row_that_is_left_out_is_none():
    rows = Rows(np.arange(5.0)[:, np.newaxis], np.zeros(5), np.array([1.0, 0.0, 1.0, 0.0, 1.0]))
    assert rows.drop_weightless().place.tolist() == [0, -1, 1, -1, 2]
    assert rows.drop_weightless().normalize_weights().place.tolist() == [0, -1, 1, -1, 2]
    assert rows.drop_weightless().take(np.array([2, 0])).place.tolist() == [1, -1, -1, -1, 0]
