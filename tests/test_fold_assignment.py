"""Who holds out which rows: by class, with copies of a row or rows of a group together."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from strategies import seeds

from skdnn.training.rows import Rows, assign_folds
from skdnn.training.trainer import Batches

many_labels = st.lists(st.sampled_from([0.0, 1.0]), min_size=16, max_size=60).map(np.array)
few_members = st.integers(2, 4)
many_members = st.integers(5, 12)
fractions = st.floats(0.01, 0.99)


def indexed(y, is_weighted=True):
    """Return rows that carry their own number as a feature, and a weight that is no count."""
    index = np.arange(float(len(y)))
    weight = np.log(index + 2.0) if is_weighted else None
    return Rows(index[:, np.newaxis], np.asarray(y, np.float64), weight)


def assign(rows, n_members=8, fraction=0.1, seed=0):
    return assign_folds(rows, n_members, fraction, np.random.default_rng(seed))


def split_validation(rows, fraction, rng):
    """Return the rows that a single network trains on, and those that it holds out."""
    (is_out,) = assign_folds(rows, 1, fraction, rng)
    return rows.take(np.flatnonzero(~is_out)), rows.take(np.flatnonzero(is_out))


def number_sets(is_out):
    """Return the number of the set of members that hold out each row."""
    return np.unique(is_out, axis=1, return_inverse=True)[1].ravel()


def weight_of(rows):
    return np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight


# Rows that are all different.


@given(y=many_labels, n_members=many_members, seed=seeds)
def test_many_members_have_equal_shares_of_each_class(y, n_members, seed):
    """As nearly as whole rows allow, and of all rows too; a class of one row is in no fold."""
    given_rows = indexed(y)
    is_out, n_folds = assign(given_rows, n_members, seed=seed), min(n_members, 10)
    np.testing.assert_array_equal(is_out, is_out[np.arange(n_members) % n_folds])
    folds = is_out[:n_folds]
    for label, n_rows in Counter(y).items():
        of_class = folds[:, y == label]
        assert (of_class.sum(axis=0) == (n_rows > 1)).all()
        assert np.ptp(of_class.sum(axis=1)) <= 1
    assert np.ptp(folds.sum(axis=1)) <= 1


@given(y=many_labels, n_members=few_members, fraction=fractions, seed=seeds)
def test_few_members_hold_out_their_fraction_of_each_class(y, n_members, fraction, seed):
    """Each at least one row if there are two, and keeps one to learn from."""
    is_out = assign(indexed(y), n_members, fraction, seed)
    for label, n_rows in Counter(y).items():
        sizes = is_out[:, y == label].sum(axis=1)
        if n_rows == 1:
            assert not sizes.any()
            continue
        n_out = min(max(round(fraction * n_rows), 1), n_rows - 1)
        assert sizes.tolist() == [n_out] * n_members
        times = is_out[:, y == label].sum(axis=0)
        assert times.max() <= -(-n_out * n_members // n_rows)  # no more often than they must


@pytest.mark.parametrize("n_members", [2, 3, 4])
def test_fractions_of_next_to_nothing_and_next_to_all_are_taken(n_members):
    for fraction, n_out in ((1e-9, 1), (np.nextafter(1.0, 0.0), 19)):
        is_out = assign(indexed([0, 1] * 20), n_members, fraction)
        assert is_out.sum(axis=1).tolist() == [2 * n_out] * n_members


@given(n_members=st.integers(2, 12), n_rare=st.integers(2, 12), seed=seeds)
def test_rare_class_is_judged(n_members, n_rare, seed):
    """By every one of few members, and in every row of it by many."""
    y = np.arange(200) < n_rare
    is_out = assign(indexed(y), n_members, 0.1, seed)[:, y]
    assert is_out.any(axis=1).all() if n_members < 5 else is_out.any(axis=0).all()
    assert not is_out.all(axis=1).any()


def test_each_row_is_in_each_fold_equally_often():
    """Within five standard deviations; the same generator assigns the same folds."""
    rows, rng, count = indexed([0.0, 1.0] * 8), np.random.default_rng(0), np.zeros((16, 8))
    for _ in range(160):
        count += assign_folds(rows, 8, 0.1, rng).T
    assert np.abs(count * 8 / 160 - 1.0).max() < 5 * np.sqrt(7 / 160)
    one, same = (assign(rows, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one, same)


# Rows that are alike.


def repeated(n_distinct=40, seed=0):
    """Return rows that stand there once to five times, and which of them are the same."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n_distinct, 2)), rng.integers(0, 2, n_distinct).astype(float)
    index = rng.permutation(np.repeat(np.arange(n_distinct), rng.integers(1, 6, n_distinct)))
    return Rows(X[index], y[index]), index


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("n_members", [2, 3, 8, 12])
def test_copies_of_a_row_stay_together(n_members, is_sparse):
    rows, number = repeated()
    if is_sparse:
        rows = replace(rows, X=csr_array(rows.X))
    of_row = number_sets(assign(rows, n_members, 0.3))
    for x in range(40):
        assert len(set(of_row[number == x])) == 1
    assert len(set(of_row)) > 1


@pytest.mark.parametrize("is_sparse", [False, True])
def test_copies_of_a_row_stay_on_one_side(is_sparse):
    rows, number = repeated()
    X = csr_array(rows.X) if is_sparse else rows.X
    parts = split_validation(Rows(X, rows.y), 0.3, np.random.default_rng(0))
    sides = [set(number[part.place >= 0]) for part in parts]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 12


def levels(n_rows=4_000, n_levels=3, seed=0):
    """Return rows of few distinct x, which are of the second class with rates of their own."""
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.arange(n_rows) % n_levels)
    y = rng.random(n_rows) < np.array([0.2, 0.5, 0.8])[x % 3]
    return Rows(x[:, np.newaxis] * 1.0, y * 1.0)


@pytest.mark.parametrize("n_members", [2, 4, 8, 12])
def test_levels_have_their_rate_in_each_fold(n_members):
    """Each of their rows is held out by itself."""
    rows, of_level = levels(), lambda values, x: np.bincount(x, values) / np.bincount(x)
    folds, x = assign(rows, n_members, 0.25), rows.X[:, 0].astype(int)
    share = 0.25 if n_members < 5 else 1 / min(n_members, 10)
    for is_out in folds:
        np.testing.assert_allclose(of_level(is_out, x), share, atol=0.06)
        rate = of_level(rows.y, x)
        np.testing.assert_allclose(of_level(rows.y[is_out], x[is_out]), rate, atol=0.2)
        np.testing.assert_allclose(of_level(rows.y[~is_out], x[~is_out]), rate, atol=0.05)


@pytest.mark.parametrize(
    ("n_distinct", "n_copies", "are_levels"),
    [(2, 4, False), (2, 5, True), (64, 4, False), (64, 5, True), (65, 20, False)],
)
def test_copies_are_apart_where_few_x_stand_there_often(n_distinct, n_copies, are_levels):
    rows = levels(n_distinct * n_copies, n_distinct)
    rows = replace(rows, y=rows.X[:, 0] % 2)
    of_row = number_sets(assign(rows))
    has_several = [len(set(of_row[rows.X[:, 0] == x])) > 1 for x in range(n_distinct)]
    assert all(has_several) if are_levels else not any(has_several)


@pytest.mark.parametrize(("n_mixed", "are_apart"), [(20, False), (21, True)])
def test_copies_are_apart_where_many_bear_both_labels(n_mixed, are_apart):
    """More than a tenth of the x that stand there more than once."""
    x = np.repeat(np.arange(300.0), np.repeat([4, 1], [200, 100]))
    y = (x % 2 == 1) * 1.0
    y[np.searchsorted(x, np.arange(n_mixed))] = 1.0 - np.arange(n_mixed) % 2
    of_row = number_sets(assign(Rows(x[:, np.newaxis], y)))
    has_several = [len(set(of_row[x == number])) > 1 for number in range(200)]
    assert sum(has_several) > 150 if are_apart else not any(has_several)


@given(
    x=st.lists(st.integers(0, 20), min_size=16, max_size=60),
    n_members=st.integers(2, 12),
    fraction=fractions,
    seed=seeds,
)
def test_copies_of_both_labels_leave_both_to_learn_from(x, n_members, fraction, seed):
    """Whatever the labels of copies are, which are held out together."""
    x = np.array(x)
    y = np.random.default_rng(seed).integers(0, 2, len(x)) * 1.0
    assume(len(set(y)) == 2)
    for is_out in assign(Rows(x[:, np.newaxis] * 1.0, y), n_members, fraction, seed):
        assert set(y[~is_out]) == {0.0, 1.0}


@pytest.mark.parametrize("n_members", [3, 8])
def test_folds_do_not_depend_on_weights(n_members):
    rows = repeated()[0]
    weight = np.random.default_rng(0).exponential(size=len(rows))
    one, other = (assign(replace(rows, sample_weight=w), n_members) for w in (None, weight))
    np.testing.assert_array_equal(one, other)


# Copies in one batch, and counts.


def test_levels_that_were_counted_become_the_rows():
    rows = levels(200)
    keys, counts = np.unique(np.column_stack([rows.X, rows.y]), axis=0, return_counts=True)
    counted = Rows(keys[:, :1], keys[:, 1], counts * 1.0).merge_copies()
    copies = rows.merge_copies()
    for part in (counted, copies):
        assert (part.sample_weight == 1.0).all()
        np.testing.assert_array_equal(np.sort(part.X, axis=0), np.sort(rows.X, axis=0))
    np.testing.assert_array_equal(counted.X, copies.X)
    np.testing.assert_array_equal(counted.y, copies.y)
    np.testing.assert_array_equal(copies.X[copies.place], rows.X)
    np.testing.assert_array_equal(counted.X[counted.place], keys[:, :1])
    assert sorted(copies.place) == list(range(200))


def test_more_copies_than_there_is_room_for_have_parts_of_the_weight():
    rows = Rows(np.eye(4), np.array([0.0, 1.0, 1.0, 0.0]), np.array([1e6, 3e6, 1e6, 5.0]))
    copies = rows.merge_copies()
    assert 9_990 <= len(copies) <= 10_000
    weight = [copies.sample_weight[copies.X[:, j] == 1.0].sum() for j in range(4)]
    np.testing.assert_allclose(weight, rows.sample_weight)


def test_copies_of_few_are_merged_and_weights_that_count_nothing_left():
    rows = repeated(20)[0]
    assert len(rows.merge_copies()) == 20
    rows = levels(200)
    rows = replace(rows, sample_weight=np.random.default_rng(0).exponential(size=200))
    assert sorted(rows.merge_copies().sample_weight) == sorted(rows.sample_weight)


# One network: a part of the rows.


@given(y=many_labels, fraction=fractions, seed=seeds)
def test_split_puts_each_row_on_one_side(y, fraction, seed):
    """With its own label and weight, in the order of the table; one class may be alone."""
    rows = indexed(y)
    training, validation = split_validation(rows, fraction, np.random.default_rng(seed))
    for part in (training, validation):
        index = part.X[:, 0].astype(int)
        assert (np.diff(index) > 0).all()
        expected = rows.take(index)
        np.testing.assert_array_equal(part.y, expected.y)
        np.testing.assert_array_equal(part.sample_weight, expected.sample_weight)
    assert len(training) + len(validation) == len(rows)
    assert not set(training.X[:, 0]) & set(validation.X[:, 0])


@given(y=many_labels, fraction=fractions, seed=seeds)
def test_split_takes_its_fraction_of_each_class(y, fraction, seed):
    """As near as whole rows allow: one stays if there is one, one is held out if there are two."""
    training, validation = split_validation(indexed(y), fraction, np.random.default_rng(seed))
    for label, n_rows in Counter(y).items():
        if n_rows == 1:
            assert label in training.y
        else:
            n_out = np.count_nonzero(validation.y == label)
            assert 1 <= n_out <= n_rows - 1
            assert abs(n_out - fraction * n_rows) <= 1.0


def test_split_keeps_a_lonely_row_for_training():
    rows = indexed([1] + [0] * 20)
    training, validation = split_validation(rows, 0.9, np.random.default_rng(0))
    assert 1.0 in training.y
    assert set(validation.y) == {0.0}


def test_split_follows_the_generator():
    rows = indexed([0, 1] * 50)
    one, same, other = (split_validation(rows, 0.2, np.random.default_rng(s))[1] for s in (0, 0, 1))
    assert one.X.tolist() == same.X.tolist() != other.X.tolist()


def test_split_holds_out_every_row_equally_often():
    """Two of ten rows of each class: a fifth of the time, within five standard deviations."""
    rng, count = np.random.default_rng(0), np.zeros(20)
    for _ in range(200):
        _, validation = split_validation(indexed([0, 1] * 10), 0.2, rng)
        count[validation.X[:, 0].astype(int)] += 1
    assert np.abs(count / 200 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 200)


def test_split_without_weights_has_none():
    parts = split_validation(indexed([0, 1] * 10, False), 0.2, np.random.default_rng(0))
    assert [part.sample_weight for part in parts] == [None, None]


# Groups.


def grouped(group, y, weight=None):
    """Return rows that are all different, of some groups."""
    rows = indexed(y, is_weighted=False)
    return replace(rows, sample_weight=weight).with_groups(np.asarray(group))


@given(
    group=st.lists(st.integers(0, 12), min_size=16, max_size=60),
    n_members=st.integers(2, 12),
    fraction=fractions,
    seed=seeds,
)
def test_groups_stay_together_and_leave_both_classes_to_learn_from(
    group, n_members, fraction, seed
):
    group = np.array(group)
    y = np.random.default_rng(seed).integers(0, 2, len(group))
    assume(len(set(y)) == 2)
    n_whole = sum(len(set(group[y == label])) == 1 for label in (0, 1))
    assume(len(set(group)) > n_whole + 1)
    folds = assign(grouped(group, y), n_members, fraction, seed)
    of_row = number_sets(folds)
    for label in set(group):
        assert len(set(of_row[group == label])) == 1
    assert folds.any()
    for of_member in folds:
        assert set(y[~of_member]) == {0, 1}


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("n_members", [2, 4, 8, 12])
def test_groups_are_assigned_in_proportion(n_members, is_weighted):
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), rng.integers(1, 20, 200))
    y = rng.random(len(group)) < rng.choice([0.02, 0.3], 200)[group]
    weight = rng.exponential(size=len(group)) if is_weighted else None
    rows = grouped(group, y, weight)
    folds = assign(rows, n_members, 0.2)
    share = 0.2 if n_members < 5 else 1 / min(n_members, 10)
    for of_member in folds:
        for label in (0.0, 1.0):
            of_class = weight_of(rows) * (rows.y == label)
            assert of_class[of_member].sum() / of_class.sum() == pytest.approx(share, rel=0.15)


def test_fewer_groups_than_members_are_as_many_folds():
    group = np.arange(30) % 3
    folds = assign(grouped(group, np.arange(30) // 3 % 2))
    assert [len(set(group[of_member])) for of_member in folds] == [1] * 8
    assert len(np.unique(folds, axis=0)) == 3


def test_group_that_has_all_of_a_class_is_learned_from_by_all():
    group = np.arange(30) % 5
    is_out = assign(grouped(group, group == 2))
    assert not is_out[:, group == 2].any()
    assert is_out[:, group != 2].any(axis=0).all()


@pytest.mark.parametrize("n_members", [2, 8])
@pytest.mark.parametrize("group", [np.zeros(20, int), np.arange(20) % 2], ids=["one", "by class"])
def test_groups_of_which_none_can_be_held_out_are_refused(group, n_members):
    with pytest.raises(ValueError, match="groups"):
        assign(grouped(group, np.arange(20) % 2), n_members)
    with pytest.raises(ValueError, match="groups"):
        split_validation(grouped(group, np.arange(20) % 2), 0.1, np.random.default_rng(0))


def test_split_keeps_groups_on_one_side():
    group = np.arange(60) % 20
    rows = grouped(group, np.arange(60) // 20 % 2)
    training, validation = split_validation(rows, 0.2, np.random.default_rng(0))
    assert set(validation.group) == set(range(20)) - set(training.group)
    assert len(set(validation.group)) == 4


def test_groups_come_before_likeness():
    """Equal rows of two groups are assigned with these, and few distinct rows are not shared."""
    x = np.arange(40) % 4
    rows = Rows(x[:, np.newaxis] * 1.0, x // 2 * 1.0).with_groups(np.arange(40) // 4)
    of_row = number_sets(assign(rows))
    for number in range(10):
        assert len(set(of_row[rows.group == number])) == 1


# What a member trains on.


@given(y=many_labels, n_members=st.integers(1, 8), fraction=fractions, seed=seeds)
def test_each_row_is_trained_on_or_held_out_by_each_member(y, n_members, fraction, seed):
    """An epoch has as many rows as the member with the fewest learns from."""
    rows = indexed(y)
    rows = replace(rows, is_held_out=assign(rows, n_members, fraction, seed))
    batches = Batches(rows, 5, shuffle=True)
    orders = batches.orders(range(n_members), [np.random.default_rng(i) for i in range(n_members)])
    n_learned = (~rows.is_held_out).sum(axis=1)
    assert orders.shape == (n_members, n_learned.min())
    for member, order in enumerate(orders):
        assert len(set(order)) == len(order)
        assert not rows.is_held_out[member, order].any()
        assert ((batches.weight(member) > 0.0) == ~rows.is_held_out[member]).all()
