"""Mini-batches: each row once an epoch, with its label and weight, in each member's own order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from skdnn import _batches
from skdnn._batches import Minibatches
from skdnn.training.random_streams import RandomStreams
from skdnn.training.rows import Rows


def numbered_rows(n_samples, is_weighted=True):
    """Return rows that carry their own number, as features, as label and as weight."""
    index = np.arange(float(n_samples))
    return Rows(np.column_stack([index, -index]), index, index if is_weighted else None)


def epoch_of(batches):
    """Return copies of x, y and weights of each batch of one epoch."""
    parts = []
    for block in batches:
        for columns in batches.cut(block.shape[1]):
            weight = batches.sample_weight
            weight = None if weight is None else weight[:, columns].copy()
            parts.append((block[:, columns].copy(), batches.y[:, columns].copy(), weight))
    return parts


@given(
    n_samples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    n_members=st.integers(1, 3),
    is_weighted=st.booleans(),
    seed=seeds,
)
def test_batches_cover_each_row_once_an_epoch(n_samples, batch_size, n_members, is_weighted, seed):
    """For each member, in each of two epochs, with the label and weight that belong to it."""
    rows = numbered_rows(n_samples, is_weighted)
    rngs = RandomStreams.spawn(seed, range(n_members)).shuffling
    batches = Minibatches(rows, batch_size, rngs)
    for _ in range(2):
        parts = epoch_of(batches)
        assert len(parts) == batches.n_batches
        for x, y, weight in parts:
            assert x.shape == (*y.shape, 2)
            np.testing.assert_array_equal(x[..., 0], y)
            np.testing.assert_array_equal(x[..., 1], -y)
            assert (weight is None) == (not is_weighted)
            np.testing.assert_array_equal(y if weight is None else weight, y)
        for seen in np.concatenate([y for _, y, _ in parts], axis=1):
            np.testing.assert_array_equal(np.sort(seen), np.arange(n_samples))


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("batch_size", [4, 7, 30])
@pytest.mark.parametrize("block_rows", [1, 10, 21])
@pytest.mark.parametrize("limit", ["BLOCK_ROWS", "BLOCK_VALUES"])
def test_batches_do_not_depend_on_blocks(is_shuffled, batch_size, block_rows, limit, monkeypatch):
    """A block has whole batches, at least one; its labels and weights are those of its rows."""
    epochs = []
    for size in (_batches.BLOCK_ROWS, block_rows):
        n_per_row = 2 if limit == "BLOCK_VALUES" else 1
        monkeypatch.setattr(_batches, limit, n_per_row * size)
        rngs = RandomStreams.spawn(0, range(2)).shuffling if is_shuffled else None
        batches = Minibatches(numbered_rows(25), batch_size, rngs)
        epochs.append([part for _ in range(2) for part in epoch_of(batches)])
        sizes = [x.shape[1] for x in batches]
    assert max(sizes) == batches.block_size <= max(batch_size, block_rows)
    assert all(size % batches.batch_size == 0 for size in sizes[:-1])
    for one, other in zip(*epochs, strict=True):
        for array, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, same)


def test_order_of_an_epoch_is_a_permutation_by_the_members_stream():
    """Of the rows in their order, whatever the epochs before: so training can go on exactly."""
    batches = Minibatches(numbered_rows(25), 10, RandomStreams.spawn(0, range(2)).shuffling)
    streams = RandomStreams.spawn(0, range(2)).shuffling
    for _ in range(2):
        y = np.concatenate([y for _, y, _ in epoch_of(batches)], axis=1)
        expected = [rng.permutation(np.arange(25)) for rng in streams]
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("batch_size", [4, 30])
def test_batches_of_selected_rows_are_those_of_a_table_of_their_own(is_shuffled, batch_size):
    rows, index = numbered_rows(25), np.arange(1, 25, 2)
    epochs = []
    for part in (rows.take(index), rows.select(index)):
        rngs = RandomStreams.spawn(0, range(2)).shuffling if is_shuffled else None
        epochs.append(epoch_of(Minibatches(part, batch_size, rngs)))
    for one, other in zip(*epochs, strict=True):
        for array, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, same)


@given(n_samples=st.integers(1, 40), batch_size=st.integers(1, 50), is_shuffled=st.booleans())
def test_batches_are_full_but_for_the_last(n_samples, batch_size, is_shuffled):
    rngs = RandomStreams.spawn(0, [0]).shuffling if is_shuffled else None
    batches = Minibatches(numbered_rows(n_samples), batch_size, rngs)
    sizes = [x.shape[1] for x, _, _ in epoch_of(batches)]
    full, n_left = divmod(n_samples, batch_size)
    assert sizes == [batch_size] * full + [n_left] * (n_left > 0)
    assert Counter(sizes) == batches.sizes


@given(n_samples=st.integers(1, 40), batch_size=st.integers(1, 50), n_batches=st.integers(1, 5))
def test_parts_of_a_block_have_batches_of_one_size(n_samples, batch_size, n_batches):
    """As many as are asked for, but for the last full ones; a shorter batch is alone."""
    batches = Minibatches(numbered_rows(n_samples), batch_size, None)
    parts = list(batches.cut(n_samples, n_batches))
    assert [row for part in parts for row in range(n_samples)[part]] == list(range(n_samples))
    for part in parts[:-2]:
        assert part.stop - part.start == n_batches * batches.batch_size
    for part in parts:
        n_rows, count = part.stop - part.start, batches.count(part)
        assert count <= n_batches
        assert n_rows == count * batches.batch_size or (count == 1 and part is parts[-1])


def test_batches_of_each_member_and_epoch_come_in_an_order_of_their_own():
    batches = Minibatches(numbered_rows(50), 10, RandomStreams.spawn(0, range(2)).shuffling)
    orders = []
    for _ in range(2):
        y = np.concatenate([y for _, y, _ in epoch_of(batches)], axis=1)
        orders += y.tolist()
    assert len({tuple(order) for order in orders}) == 4


def test_batches_without_shuffling_keep_the_order_and_copy_nothing():
    rows = numbered_rows(25)
    batches = Minibatches(rows, 10, None)
    np.testing.assert_array_equal(
        np.concatenate([y[0] for _, y, _ in epoch_of(batches)]), np.arange(25)
    )
    assert all(np.shares_memory(x, rows.X) for x in batches)


@pytest.mark.parametrize("batch_size", [25, 1000])
def test_batch_of_all_rows_takes_them_as_they_lie(batch_size):
    """No copy, no shuffling, and no random number is drawn."""
    rows, rngs = numbered_rows(25), RandomStreams.spawn(0, range(3)).shuffling
    [x] = batches = Minibatches(rows, batch_size, rngs)
    assert x.shape == (1, 25, 2)
    assert np.shares_memory(x, rows.X)
    assert np.shares_memory(batches.y, rows.y)
    untouched = RandomStreams.spawn(0, range(3)).shuffling
    assert [rng.random() for rng in rngs] == [rng.random() for rng in untouched]


def test_batches_leave_the_rows_as_they_are():
    rows = numbered_rows(25)
    for _ in range(2):
        epoch_of(Minibatches(rows, 10, RandomStreams.spawn(0, range(2)).shuffling))
    for array, as_it_was in zip(vars(rows).values(), vars(numbered_rows(25)).values(), strict=True):
        np.testing.assert_array_equal(array, as_it_was)
