"""Who holds out which rows: by class, with copies of a row or rows of a group together."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from strategies import seeds

from skdnn.training.folds import (
    IN_NO_FOLD,
    Folds,
    assign_folds,
    repeat_counted,
    split_validation,
)
from skdnn.training.rows import Rows

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


def held_out_by(folds):
    """Return of each member and row whether it is held out."""
    return np.stack([folds.is_held_out(member) for member in range(folds.n_members)])


def weight_of(rows):
    return np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight


# Rows that are all different.


@given(y=many_labels, n_members=many_members, seed=seeds)
def test_many_members_have_equal_shares_of_each_class(y, n_members, seed):
    """As nearly as whole rows allow, and of all rows too; a class of one row is in no fold."""
    given_rows = indexed(y)
    rows, folds = assign(given_rows, n_members, seed=seed)
    assert rows is given_rows
    n_folds, of_row = min(n_members, 10), folds.of_row
    assert folds.n_folds == n_folds
    for label, n_rows in Counter(y).items():
        sizes = np.bincount(of_row[(y == label) & (of_row >= 0)], minlength=n_folds)
        assert sizes.sum() == (n_rows if n_rows > 1 else 0)
        assert np.ptp(sizes) <= 1
    assert np.ptp(np.bincount(of_row[of_row >= 0], minlength=n_folds)) <= 1


@given(y=many_labels, n_members=few_members, fraction=fractions, seed=seeds)
def test_few_members_hold_out_their_fraction_of_each_class(y, n_members, fraction, seed):
    """Each at least one row if there are two, and keeps one to learn from."""
    _, folds = assign(indexed(y), n_members, fraction, seed)
    is_out = held_out_by(folds)
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
        _, folds = assign(indexed([0, 1] * 20), n_members, fraction)
        assert held_out_by(folds).sum(axis=1).tolist() == [2 * n_out] * n_members


@given(n_members=st.integers(2, 12), n_rare=st.integers(2, 12), seed=seeds)
def test_rare_class_is_judged(n_members, n_rare, seed):
    """By every one of few members, and in every row of it by many."""
    y = np.arange(200) < n_rare
    _, folds = assign(indexed(y), n_members, 0.1, seed)
    is_out = held_out_by(folds)[:, y]
    assert is_out.any(axis=1).all() if n_members < 5 else is_out.any(axis=0).all()
    assert not is_out.all(axis=1).any()


def test_each_row_is_in_each_fold_equally_often():
    """Within five standard deviations; the same generator assigns the same folds."""
    rows, rng, count = indexed([0.0, 1.0] * 8), np.random.default_rng(0), np.zeros((16, 8))
    for _ in range(160):
        count[np.arange(16), assign_folds(rows, 8, 0.1, rng)[1].of_row] += 1
    assert np.abs(count * 8 / 160 - 1.0).max() < 5 * np.sqrt(7 / 160)
    one, same = (assign(rows, seed=1)[1].of_row for _ in range(2))
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
    assigned, folds = assign(rows, n_members, 0.3)
    assert assigned is rows
    for x in range(40):
        assert len(set(folds.of_row[number == x])) == 1
    assert len(set(folds.of_row)) > 1


@pytest.mark.parametrize("is_sparse", [False, True])
def test_copies_of_a_row_stay_on_one_side(is_sparse):
    rows, number = repeated()
    X = csr_array(rows.X) if is_sparse else rows.X
    parts = split_validation(Rows(X, rows.y), 0.3, np.random.default_rng(0))
    sides = [set(number[part.place >= 0]) for part in parts]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 12


def levels(n_rows=4_000, seed=0):
    """Return rows of three distinct x, which are of the second class with 0.2, 0.5 and 0.8."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, n_rows)
    y = rng.random(n_rows) < np.array([0.2, 0.5, 0.8])[x]
    return Rows(x[:, np.newaxis] * 1.0, y * 1.0)


def rate_by_x(rows, is_there):
    """Return the weight of each x, and the share of the second class in it, of some rows."""
    x = rows.X[is_there, 0].astype(int)
    weight = weight_of(rows)[is_there]
    total = np.bincount(x, weight)
    return total, np.bincount(x, weight * rows.y[is_there]) / total


@pytest.mark.parametrize("factor", [1.0, 0.1, 1e-20])
@pytest.mark.parametrize("kind", ["rows", "counts", "any weights", "row for row"])
@pytest.mark.parametrize("n_members", [2, 4, 8, 12])
def test_few_x_have_their_rate_in_each_fold(n_members, kind, factor):
    """Whether as rows, or with weights: whole numbers of some unit, or any numbers."""
    rows = levels()
    if kind == "row for row":
        rows = replace(rows, sample_weight=np.random.default_rng(0).exponential(size=len(rows)))
    elif kind != "rows":
        rows = rows.merge_identical()
    if kind == "any weights":
        rows = replace(rows, sample_weight=rows.sample_weight + np.pi * np.arange(1, 7))
    if rows.sample_weight is not None:
        rows = replace(rows, sample_weight=rows.sample_weight * factor)
    whole, rate = rate_by_x(rows, slice(None))
    assigned, folds = assign(rows, n_members, 0.25)
    share = 0.25 if n_members < 5 else 1 / min(n_members, 10)
    for member in range(n_members):
        is_out = folds.is_held_out(member)
        held_out, rate_out = rate_by_x(assigned, is_out)
        learned, rate_in = rate_by_x(assigned, ~is_out)
        np.testing.assert_allclose(held_out + learned, whole)
        np.testing.assert_allclose(held_out / whole, share, atol=0.06)
        np.testing.assert_allclose(rate_out, rate, atol=0.2)
        np.testing.assert_allclose(rate_in, rate, atol=0.05)


def test_few_x_of_one_label_each_are_learned_by_every_member():
    """The exclusive or of two flags: no member could guess what it has never seen."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    for times in (1, 400):
        rows = Rows(X, np.array([0.0, 1.0, 1.0, 0.0])).take(np.tile(np.arange(4), times))
        assigned, folds = assign(rows)
        x = assigned.X @ [2, 1]
        for member in range(8):
            is_out = folds.is_held_out(member)
            assert set(x[is_out]) == set(x[~is_out]) == {0, 1, 2, 3}
            assert weight_of(assigned)[is_out].sum() == pytest.approx(times / 2)


def both_labels(counts):
    """Return rows of many x that bear both labels, with weights."""
    counts = np.asarray(counts, np.float64)
    x = np.arange(len(counts)) // 2
    return Rows(x[:, np.newaxis] * 1.0, np.arange(len(counts)) % 2 * 1.0, counts)


@pytest.mark.parametrize("factor", [0.3, 1e-30, 1e30])
@pytest.mark.parametrize("class_weight", [1.0, 0.007])
def test_row_is_cut_into_as_many_units_as_its_weight_counts(factor, class_weight):
    """Units may be of any size, and differ by class."""
    counts = np.random.default_rng(0).integers(2, 12, 60)
    unit = factor * np.where(np.arange(60) % 2, class_weight, 1.0)
    rows, folds = assign(both_labels(counts * unit))
    assert set(folds.of_row) == set(range(8))
    np.testing.assert_array_equal(np.bincount(rows.logit_index[rows.place]), 1)
    np.testing.assert_allclose(np.bincount(rows.logit_index, rows.sample_weight), counts * unit)
    units = rows.sample_weight / unit[rows.logit_index]
    np.testing.assert_allclose(units, np.rint(units))
    totals = [np.bincount(folds.of_row, units * (rows.y == label)) for label in (0, 1)]
    assert all(np.ptp(total) <= 1.0 + 1e-9 for total in totals)


def test_rows_of_weight_one_are_left_whole():
    rows = both_labels(np.ones(60))
    assert assign(rows)[0] is rows
    assert assign(replace(rows, sample_weight=None))[0].sample_weight is None


@pytest.mark.parametrize(
    "make", [lambda: repeated()[0], levels, lambda: both_labels([3, 1] * 20)], ids=range(3)
)
@pytest.mark.parametrize("n_members", [3, 8])
def test_folds_do_not_depend_on_the_scale_of_the_weights(make, n_members):
    rows = make()
    one, of_one = assign(rows, n_members, 0.3)
    for factor in (0.1, 3.7, 1e-30, 1e30):
        scaled = replace(rows, sample_weight=weight_of(rows) * factor)
        other, of_other = assign(scaled, n_members, 0.3)
        np.testing.assert_array_equal(of_one.of_row, of_other.of_row)
        np.testing.assert_allclose(weight_of(one) * factor, other.sample_weight)


@pytest.mark.parametrize("is_counted", [False, True])
@pytest.mark.parametrize(
    ("n_distinct", "n_copies", "are_apart"),
    [(2, 3, True), (15, 3, True), (16, 7, False), (16, 8, True), (64, 8, True), (65, 20, False)],
)
def test_copies_are_apart_where_few_x_stand_there_often(
    n_distinct, n_copies, are_apart, is_counted
):
    """As rows, or counted by weights in whatever unit."""
    others = np.random.default_rng(0).integers(0, n_distinct, n_distinct * (n_copies - 1))
    x = np.concatenate([np.arange(n_distinct), others])
    rows = Rows(x[:, np.newaxis] * 1.0, x % 2 * 1.0)
    if is_counted:
        rows = rows.merge_identical()
        rows = replace(rows, sample_weight=rows.sample_weight * 0.3)
    rows, folds = assign(rows)
    has_several = [len(set(folds.of_row[rows.X[:, 0] == x])) > 1 for x in range(n_distinct)]
    assert any(has_several) == are_apart


def test_weights_without_a_unit_leave_rows_with_copies_whole():
    """One that has none like it is shared by all folds, where x bears both labels."""
    x = np.arange(40) // 2
    x, y = np.append(x, [0, 2, 4]), np.append(np.arange(40) % 2, [0, 0, 0]) * 1.0
    weight = np.random.default_rng(0).exponential(size=43)
    rows, _ = assign(Rows(x[:, np.newaxis] * 1.0, y, weight))
    n_parts = np.bincount(rows.logit_index)
    has_copies = np.isin(np.arange(43), [0, 4, 8, 40, 41, 42])
    assert n_parts.tolist() == np.where(has_copies, 1, 8).tolist()


def test_repeating_takes_back_what_merging_did_to_observations():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, 200), rng.integers(0, 2, 200)
    merged = Rows(x[:, np.newaxis] * 1.0, y * 1.0).merge_identical()
    repeated = repeat_counted(merged, 1_000)
    assert (len(merged), len(repeated)) == (6, 200)
    assert (repeated.sample_weight == 1.0).all()
    assert Counter(zip(repeated.X[:, 0], repeated.y, strict=True)) == Counter(
        zip(x.tolist(), y.tolist(), strict=True)
    )
    np.testing.assert_array_equal(repeated.X[repeated.place, 0], x)


def test_more_copies_than_there_is_room_for_have_parts_of_the_weight():
    rows = Rows(np.eye(4), np.array([0.0, 1.0, 1.0, 0.0]), np.array([1e6, 3e6, 1e6, 5.0]))
    repeated = repeat_counted(rows, 1_000)
    assert 990 <= len(repeated) <= 1_010
    weight = np.bincount(repeated.logit_index, repeated.sample_weight)
    np.testing.assert_allclose(weight, rows.sample_weight)


def test_copies_that_tell_nothing_new_stay_merged():
    rows = Rows(np.eye(20), np.arange(20) % 2 * 1.0, np.arange(20) % 7 + 1.0)
    assert repeat_counted(rows, 1_000) is rows


# One network: a part of the rows.


@given(y=many_labels, fraction=fractions, seed=seeds)
def test_split_puts_each_row_on_one_side(y, fraction, seed):
    """With its own label and weight, in the order of the table; one class may be alone."""
    rows = indexed(y)
    training, validation = split_validation(rows, fraction, np.random.default_rng(seed))
    assert training.X.table is rows.X
    training = training.gather()
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


def test_split_shares_the_weight_of_few_rows():
    """Two rows, for instance: both are learned from and judged."""
    rows = indexed([0.0, 1.0], is_weighted=False)
    training, validation = split_validation(rows, 0.25, np.random.default_rng(0))
    for part, share in ((training, 0.75), (validation, 0.25)):
        assert part.X[:, 0].tolist() == [0.0, 1.0]
        np.testing.assert_allclose(part.sample_weight, share)


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
    folds = assign(grouped(group, y), n_members, fraction, seed)[1]
    for label in set(group):
        assert len(set(folds.of_row[group == label])) == 1
    is_out = held_out_by(folds)
    assert is_out.any()
    for of_member in is_out:
        assert set(y[~of_member]) == {0, 1}


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("n_members", [2, 4, 8, 12])
def test_groups_are_assigned_in_proportion(n_members, is_weighted):
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), rng.integers(1, 20, 200))
    y = rng.random(len(group)) < rng.choice([0.02, 0.3], 200)[group]
    weight = rng.exponential(size=len(group)) if is_weighted else None
    rows, folds = assign(grouped(group, y, weight), n_members, 0.2)
    share = 0.2 if n_members < 5 else 1 / folds.n_folds
    for of_member in held_out_by(folds):
        for label in (0.0, 1.0):
            of_class = weight_of(rows) * (rows.y == label)
            assert of_class[of_member].sum() / of_class.sum() == pytest.approx(share, rel=0.15)


def test_fewer_groups_than_members_are_as_many_folds():
    group = np.arange(30) % 3
    _, folds = assign(grouped(group, np.arange(30) // 3 % 2))
    assert folds.n_folds == 3
    assert [len(set(group[of_member])) for of_member in held_out_by(folds)] == [1] * 8


def test_group_that_has_all_of_a_class_is_learned_from_by_all():
    group = np.arange(30) % 5
    _, folds = assign(grouped(group, group == 2))
    is_out = held_out_by(folds)
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
    assigned, folds = assign(rows)
    assert assigned is rows
    for number in range(10):
        assert len(set(folds.of_row[rows.group == number])) == 1


# What a member trains on.


def even_folds(y, n_members, n_folds, seed=0):
    """Let member m hold out fold ``m % n_folds``; rows are assigned at random, in turn."""
    of_row = np.empty(len(y), np.int8)
    of_row[np.random.default_rng(seed).permutation(len(y))] = np.arange(len(y)) % n_folds
    return Folds(of_row, np.arange(n_members) % n_folds == np.arange(n_folds)[:, np.newaxis])


@given(y=many_labels, n_folds=st.integers(2, 6), n_members=st.integers(1, 8), seed=seeds)
def test_each_row_is_trained_on_or_held_out_by_each_member(y, n_folds, n_members, seed):
    folds = even_folds(y, n_members, n_folds, seed)
    of_row = folds.of_row
    for member in range(n_members):
        training, held_out = folds.training_index(member), folds.validation_index(member)
        assert sorted([*training, *held_out]) == list(range(len(y)))
        assert set(of_row[held_out]) <= {member % n_folds}
        assert len(training) >= folds.n_training
    lengths = {fold: n for fold, n in Counter(of_row).items() if fold >= 0}
    assert folds.n_training == len(y) - max(lengths.values(), default=0)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_training_weights_make_the_mean_over_all_rows_one_over_the_members_own(is_weighted):
    rows, losses = indexed(np.arange(50) % 2, is_weighted), np.random.default_rng(1).normal(size=50)
    folds = even_folds(rows.y, 3, 3)
    weights = folds.training_weights(rows)
    weights /= weights.mean(axis=1, keepdims=True)
    for member in range(3):
        own = folds.training_index(member)
        given_weights = None if rows.sample_weight is None else rows.sample_weight[own]
        expected = np.average(losses[own], weights=given_weights)
        assert np.mean(weights[member] * losses) == pytest.approx(expected)
        assert not weights[member, folds.validation_index(member)].any()


OVERLAPPING = np.array([[True, False, True], [True, True, False], [False, False, False]])


def test_members_may_hold_out_the_same_rows():
    of_row = np.array([0, 0, 1, 1, 2, IN_NO_FOLD])
    folds = Folds(of_row, OVERLAPPING)
    assert [folds.validation_index(m).tolist() for m in range(3)] == [[0, 1, 2, 3], [2, 3], [0, 1]]
    assert [folds.training_index(m).tolist() for m in range(3)] == [
        [4, 5],
        [0, 1, 4, 5],
        [2, 3, 4, 5],
    ]
    assert folds.n_training == 2
