"""Rows to learn from and to validate on, with labels, weights and groups."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..utils import cut_rows

MOST_LEVELS, COPIES_OF_LEVEL = 64, 5
"""Up to so many distinct x, each of so many copies on average, are levels: new rows will hardly
differ from all of them, and each copy is an observation."""

SHARE_OF_MIXED = 0.1
"""Of the x that stand there more than once, those that bear both labels: from this share on, copies
are observations too. Rows that somebody has copied bear one label."""

MOST_COUNTED = 10_000
"""Rows that weights are turned into, at most about; a row then stands for several."""


class Selection:
    """Rows of a table by their positions, gathered when they are read.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
    index : ndarray of int of shape (n_samples,)

    Attributes
    ----------
    shape : tuple of int
        Of the gathered rows: (n_samples, n_features).
    """

    def __init__(self, table: np.ndarray, index: np.ndarray) -> None:
        self.table, self.index = table, index
        self.shape, self.dtype = (*index.shape, *table.shape[1:]), table.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Gather some rows, or some columns of theirs: as of an array."""
        rows, *columns = key if isinstance(key, tuple) else (key,)
        index = self.index[rows]
        return self.table[index, *columns] if columns else self.table.take(index, axis=0)


@dataclass(frozen=True)
class Rows:
    """A table in the dtype of training, with labels and weights.

    Attributes
    ----------
    X : ndarray, Selection, or CSR matrix or array, of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        0.0 or 1.0.
    sample_weight : ndarray of shape (n_samples,) or None
        None stands for ones. In float64, until `normalize_weights` brings them into its range.
    place : ndarray of int of shape (n_given,) or None
        Where each row of the table that these were taken from now stands: its position, or -1 if
        it is not among them. None stands for a table as it was given.
    group : ndarray of int of shape (n_samples,) or None
        The number of the group that each row belongs to.
    is_held_out : ndarray of bool of shape (n_members, n_samples) or None
        Which rows each member leaves out of its training, to be validated on them; see `hold_out`.
        None stands for none.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    place: np.ndarray | None = None
    group: np.ndarray | None = None
    is_held_out: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def weights(self) -> np.ndarray:
        """The weights, or ones if there are none."""
        return np.ones(len(self)) if self.sample_weight is None else self.sample_weight

    def take(self, index: np.ndarray, *, is_view: bool = False) -> Rows:
        """Return the rows at these positions; the place of a row taken twice is the last one.

        `is_view` says not to copy a dense table.
        """
        moved_to = np.full(len(self), -1, np.min_scalar_type(-1 - len(index)))
        moved_to[index] = np.arange(len(index))
        weight, group = (None if a is None else a[index] for a in (self.sample_weight, self.group))
        is_view &= isinstance(self.X, np.ndarray)
        X = (
            Selection(self.X, index.astype(np.min_scalar_type(len(self))))
            if is_view
            else self.X[index]
        )
        return Rows(X, self.y[index], weight, self._follow(moved_to), group)

    def gather(self) -> Rows:
        """Return the rows with a table of their own, if they have been selected from another."""
        return replace(self, X=self.X[:]) if isinstance(self.X, Selection) else self

    def _follow(self, moved_to: np.ndarray) -> np.ndarray:
        """Return the place of each given row when the one at i has moved to `moved_to[i]`."""
        if self.place is None:
            return moved_to
        return np.append(moved_to, -1)[self.place]  # position -1 reads the last entry, which is -1

    def with_groups(self, group: np.ndarray) -> Rows:
        """Return the rows with the number of the group of each one that was given."""
        if self.place is not None:
            is_here = self.place >= 0
            group_given, group = group, np.empty(len(self), group.dtype)
            group[self.place[is_here]] = group_given[is_here]
        return replace(self, group=np.unique(group, return_inverse=True)[1])

    def drop_weightless(self) -> Rows:
        """Leave out rows of weight zero, which must change nothing, not even the random numbers."""
        if self.sample_weight is None or self.sample_weight.all():
            return self
        return self.take(np.flatnonzero(self.sample_weight))

    def merge_copies(self) -> Rows:
        """Merge identical rows into one, with the sum of their weights, unless each is observed.

        Where all rows form one batch the cost stays the same function, and a row of weight k is the
        same as k rows to the last bit, under dropout too. The order depends on the values of the
        rows alone. Where equal rows are observations of their own, see `are_observations`, a row
        whose weight is a whole number k becomes k rows: a table with counts for weights then is the
        table that was counted.
        """
        labels = [self.y] if self.group is None else [self.y, self.group]
        parts = [row_bytes(self.X), *(map(np.generic.tobytes, label) for label in labels)]
        keys = np.fromiter(map(b"".join, zip(*parts, strict=True)), object, len(self))
        _, first, place = np.unique(keys, return_index=True, return_inverse=True)
        weight, times = self.weights, np.ones(len(self), np.intp)
        if (weight == np.rint(weight)).all():
            share = MOST_COUNTED / max(weight.sum(), MOST_COUNTED)
            times = np.maximum(weight * share, 1.0).astype(np.intp)
        if are_observations(count_labels(number_distinct(self.X), self.y, times)):
            order = np.lexsort((weight, place))
            index = np.repeat(order, times[order])
            return replace(self.take(index), sample_weight=(weight / times)[index])
        weight = np.bincount(place, weights=weight).astype(np.float64)
        return replace(self.take(first), sample_weight=weight, place=self._follow(place))

    def normalize_weights(self) -> Rows:
        """Scale the weights to mean 1; equal weights become None, the same as no weights."""
        weight = self.sample_weight
        if weight is None or weight.min() == weight.max():
            return replace(self, sample_weight=None)
        scaled = weight / weight.max().astype(np.float64)  # whose sum is in range
        scaled /= scaled.mean()
        return replace(self, sample_weight=scaled.astype(self.X.dtype, copy=False))


def are_observations(n: np.ndarray) -> bool:
    """Say whether equal rows are observations of their own, and not copies of one.

    New rows will often be equal to known ones then, and rows that are held out are to be so too.

    Parameters
    ----------
    n : ndarray of shape (2, n_distinct)
        Rows of each class by their x.
    """
    n_copies = n.sum(axis=0)
    n_copied, n_mixed = np.count_nonzero(n_copies > 1), np.count_nonzero(n.all(axis=0))
    are_levels = len(n_copies) <= MOST_LEVELS and n_copies.mean() >= COPIES_OF_LEVEL
    return bool(are_levels or n_mixed > SHARE_OF_MIXED * n_copied)


def count_labels(number: np.ndarray, y: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
    """Return how many rows of each class have each number: (2, n_numbers)."""
    place, n_places = 2 * number + y.astype(np.intp), 2 * (number.max() + 1)
    return np.bincount(place, times, minlength=n_places).reshape(-1, 2).T


def number_distinct(X: Any) -> np.ndarray:
    """Return a number for each row, the same for equal rows, in the order in which they come.

    Rows are compared by hashes of 64 bits: in a table of a million rows, two different ones have
    the same hash with a probability of about 10^-7.
    """
    hashes = np.fromiter(map(hash, row_bytes(X)), np.int64, X.shape[0])
    ordered = np.sort(hashes)  # takes less memory than what follows
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(hashes))
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    return np.unique(first[number], return_inverse=True)[1]


def row_bytes(X: Any) -> Iterator[bytes]:
    """Yield the bytes of each row of a table; those of equal rows are equal, of -0 and 0 too."""
    if issparse(X):
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


def checksum(*parts: Any) -> int:
    """Return the CRC-32 of arrays and bytes, in their order; None stands for nothing."""
    value = 0
    for part in parts:
        is_bytes = part is None or isinstance(part, bytes)
        content: Any = (part or b"") if is_bytes else np.ascontiguousarray(part)
        value = zlib.crc32(content, value)
    return value
