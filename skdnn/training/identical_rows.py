"""Rows that are alike: which ones, and how many units of fold assignment each of them is.

Copies of a row are one unit, as one of them tells all of the others. Where the same x bears both
labels, or few x are distinct, each copy is a unit, whether it stands in the table or is counted by
a weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from .._sparse import is_sparse
from .._values import frozen
from ..utils import ROUNDING, cut_rows
from .rows import Rows, number_by_first

FEW_X = 16
"""Distinct x below which they are few: a fold would have the only ones of a kind."""

MOST_X, COPIES_OF_X = 64, 8
"""Distinct x that are few too, at most, if there are so many copies of each in the mean: new rows
will hardly be unlike all of them, and a fold would have the only ones of several kinds."""

MOST_COUNTED = 1_000
"""Units that the least weight may be, at most; weights that need more have no unit."""


@frozen
class Alike:
    """Which rows have the same x.

    Attributes
    ----------
    number : ndarray of int of shape (n_rows,)
        The same for rows with the same x.
    first : ndarray of int of shape (n_rows,)
        The position of the first row with the same x.
    is_shared : ndarray of bool of shape (n_rows,)
        Whether each copy of a row is a unit of its own.
    is_single : ndarray of bool of shape (n_rows,)
        Whether no other row has the same x and label.
    counts : ndarray of shape (n_rows,)
        How many units each row is by its weight; 0 where the weights have no unit.
    has_few_x : bool
        Whether less than `FEW_X` x are distinct.
    """

    number: np.ndarray
    first: np.ndarray
    is_shared: np.ndarray
    is_single: np.ndarray
    counts: np.ndarray
    has_few_x: bool

    @classmethod
    def find(cls, rows: Rows) -> Alike | None:
        """Look at a table; None if all rows are different and many."""
        number = number_alike(rows.X)
        n_distinct = len(rows) if number is None else int(number.max()) + 1
        if number is None and n_distinct > MOST_X:
            return None
        number = np.arange(len(rows)) if number is None else number
        n_first, n_second = (
            np.bincount(number[rows.y == label], minlength=n_distinct)[number]
            for label in (0.0, 1.0)
        )
        is_single = np.where(rows.y == 1.0, n_second, n_first) == 1
        counts = count_repetitions(rows, is_single)
        is_often = np.maximum(counts, 1.0).sum() >= COPIES_OF_X * n_distinct
        is_few = n_distinct < FEW_X or (n_distinct <= MOST_X and is_often)
        return cls(
            number=number,
            first=np.unique(number, return_index=True)[1][number],
            is_shared=is_few | ((n_first > 0) & (n_second > 0)),
            is_single=is_single,
            counts=counts,
            has_few_x=n_distinct < FEW_X,
        )


def repeat_shared(rows: Rows, most: int) -> Rows:
    """Turn weights into copies where each copy is a unit: the inverse of merging.

    A table that has been counted then gets as many steps as the one that it was counted from, and
    its rows are assigned to folds by the same random numbers.

    Parameters
    ----------
    rows : Rows
        All different.
    most : int
        About how many rows to return; where there are more units, copies stand for several.
    """
    alike = Alike.find(rows)
    if alike is None or rows.sample_weight is None:
        return rows
    shared = np.flatnonzero(alike.is_shared)
    counts = alike.counts[shared]
    n_others = len(rows) - len(shared)
    times = np.ones(len(rows), np.intp)
    share = min(1.0, max(most - n_others, 0) / counts.sum()) if len(shared) else 1.0
    times[shared] = np.maximum(np.rint(counts * share), 1.0)
    if (times == 1).all():
        return rows
    index = np.repeat(np.arange(len(rows)), times)
    return rows.cut(index, 1.0 / times[index])


def number_alike(X: Any) -> np.ndarray | None:
    """Return a number for each row, from 0, equal for rows that are alike; None if no two are.

    Rows are compared by hashes of 64 bits: of a million, two others coincide once in 10^7 tables.
    Numbers go by the order of rows, as hashes are not the same in another process.
    """
    hashes = _hash_rows(X)
    ordered = np.sort(hashes)  # takes less memory than numbers do
    if (ordered[1:] != ordered[:-1]).all():
        return None
    return number_by_first(hashes)


def _hash_rows(X: Any) -> np.ndarray:
    return np.fromiter(map(hash, _read_bytes(X)), np.int64, X.shape[0])


def _read_bytes(X: Any) -> Iterator[bytes]:
    """Yield the bytes of each row, in which zero has no sign."""
    if is_sparse(X):
        if not X.has_canonical_format or not X.data.all():
            X = X.copy()
            X.sum_duplicates()
            X.eliminate_zeros()
        for start, stop in pairwise(X.indptr):
            yield X.indices[start:stop].tobytes() + X.data[start:stop].tobytes()
        return
    size = X.shape[1] * X.dtype.itemsize
    for block in cut_rows(*X.shape):
        content = (X[block] + 0.0).tobytes()
        for i in range(block.stop - block.start):
            yield content[i * size : (i + 1) * size]


def count_repetitions(rows: Rows, is_single: np.ndarray) -> np.ndarray:
    """Return how many units each row is by its weight; 0 where the weights have no unit.

    The weights of a class are multiples of some unit, of any size. Where they have none, a row with
    copies is one unit, and how many units a single row is remains unknown.
    """
    counts = np.ones(len(rows))
    if rows.sample_weight is None:
        return counts
    for label in np.unique(rows.y):
        of_class = rows.y == label
        weight = rows.sample_weight[of_class]
        unit = find_unit(np.unique(weight))
        counts[of_class] = ~is_single[of_class] if unit is None else np.rint(weight / unit)
    return counts


def find_unit(weights: np.ndarray, rounding: float = ROUNDING) -> float | None:
    """Return the largest unit that all weights, in ascending order, are whole multiples of.

    The least weight is `MOST_COUNTED` units at most; with more, None.
    """
    for n_units in range(1, MOST_COUNTED + 1):
        unit = float(weights[0] / n_units)
        if _are_whole(weights[:100] / unit, rounding) and _are_whole(weights / unit, rounding):
            return unit
    return None


def _are_whole(numbers: np.ndarray, rounding: float) -> bool:
    return bool((np.abs(numbers - np.rint(numbers)) <= rounding * numbers).all())
