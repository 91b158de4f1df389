"""Blocks of rows: they cover a table once, and encoding by them changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdnn.preprocessing import TabularEncoder
from skdnn.utils import BLOCK_VALUES, cut_rows


@given(n_rows=st.integers(0, 5 * BLOCK_VALUES), n_columns=st.integers(0, 2 * BLOCK_VALUES))
def test_blocks_cover_all_rows_and_are_small(n_rows, n_columns):
    n_rows = n_rows // max(1, n_columns) + n_rows % 7
    blocks = list(cut_rows(n_rows, n_columns))
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(n_rows))
    sizes = [block.stop - block.start for block in blocks]
    assert all(size == 1 or size * n_columns <= BLOCK_VALUES for size in sizes)


def mixed_arrays():
    """Return a table of numbers with gaps, a step, a constant and categories, and which these are.

    All values are numbers, so that it is an array as well as a DataFrame.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    X[:, 1] = rng.integers(2, size=60)
    X[:, 2] = 5.0
    X[:, 3] = rng.integers(15, size=60)
    X[:, 4] = rng.integers(3, size=60)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, [3, 4]


def to_pandas(X):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])


def to_polars(X):
    polars = pytest.importorskip("polars")
    return polars.DataFrame({f"column {j}": x for j, x in enumerate(X.T)})


KINDS = {"array": np.asarray, "objects": lambda X: X.astype(object), "float32": np.float32}
KINDS |= {"pandas": to_pandas, "polars": to_polars}
kinds = pytest.mark.parametrize("make_table", KINDS.values(), ids=KINDS)


@kinds
def test_encoder_of_a_large_table_is_that_of_its_columns_and_parts(make_table):
    """To the last bit: it is read in blocks of some columns in fit, and of some rows after it."""
    X, categories = mixed_arrays()
    weight = np.random.default_rng(1).exponential(size=len(X))
    X, weight = np.tile(X, (1000, 1)), np.tile(weight, 1000)
    table = make_table(X)
    encoder = TabularEncoder(categories, max_one_hot=4).fit(table, sample_weight=weight)
    encoded = encoder.transform(table)
    n_columns = 0
    for j in range(X.shape[1]):
        column = make_table(X[:, [j]])
        alone = TabularEncoder([0] if j in categories else None, max_one_hot=4)
        alone = alone.fit_transform(column, sample_weight=weight).astype(encoded.dtype)
        np.testing.assert_array_equal(encoded[:, encoder.source_features_ == j], alone)
        n_columns += alone.shape[1]
    assert encoded.shape == (len(X), n_columns)
    parts = [encoder.transform(table[i : i + 7000]) for i in range(0, len(X), 7000)]
    np.testing.assert_array_equal(encoded, np.concatenate(parts))
    assert {part.dtype for part in parts} == {encoded.dtype}


@kinds
def test_error_lists_all_infinite_columns_whichever_blocks_they_are_in(make_table):
    X, categories = mixed_arrays()
    X = np.tile(X, (1000, 1))
    table = make_table(X)
    encoder = TabularEncoder(categories).fit(table)
    labels = [table.columns[j] if hasattr(table, "columns") else j for j in (0, 5)]
    X[3, 5], X[-1, 0] = np.inf, -np.inf
    wrong = make_table(X)
    for learn in (encoder.transform, TabularEncoder(categories).fit):
        with pytest.raises(ValueError, match="infinity") as caught:
            learn(wrong)
        assert repr(labels) in str(caught.value)
