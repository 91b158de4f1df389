"""Rows to learn from and to validate on: their weights, merging, and the split between the two."""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from .._sparse import is_sparse
from .._values import frozen


def position_dtype(n_rows: int) -> np.dtype:
    """Return the dtype for positions of rows in a table: half of NumPy's own where that does."""
    return np.dtype(np.int32 if n_rows <= np.iinfo(np.int32).max else np.int64)


class Selection:
    """Rows of a table by their positions, gathered where they are asked for.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
    index : ndarray of int of shape (n_samples,) or (n_members, n_samples)

    Attributes
    ----------
    shape : tuple of int
        That of the gathered rows: (n_samples, n_features), or with the members before.
    """

    def __init__(self, table: np.ndarray, index: np.ndarray) -> None:
        self.table, self.index = table, index
        self.shape, self.dtype = (*index.shape, *table.shape[1:]), table.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Gather some rows, those of some members, or some columns of theirs: as of an array."""
        key = key if isinstance(key, tuple) else (key,)
        n_axes = self.index.ndim
        index, columns = self.index[key[:n_axes]], key[n_axes:]
        return self.table[index, *columns] if columns else self.table.take(index, axis=0)

    def of_members(self, members: range) -> Selection:
        """Return the rows of some members, where each has its own."""
        return Selection(self.table, self.index[members.start : members.stop])

    def take_into(self, key: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Gather the rows at some places of the index."""
        # mode="clip" writes straight into `out`; the default would go through a copy.
        return self.table.take(self.index.take(key), axis=0, out=out, mode="clip")


@frozen
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
    logit_index : ndarray of int of shape (n_samples,) or None
        Which logit out of fold a row has. It is the same for the parts of a row that has been cut,
        and for copies of a row where few x are distinct. None stands for one logit a row.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    place: np.ndarray | None = None
    group: np.ndarray | None = None
    logit_index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def weights(self) -> np.ndarray:
        """The weights, or ones if there are none."""
        return np.ones(len(self)) if self.sample_weight is None else self.sample_weight

    @property
    def total_weight(self) -> float:
        """The sum of the weights: the number of rows where weights stand for repetition."""
        return float(self.weights.sum())

    def count_copies(self) -> np.ndarray:
        """Return how many of the given rows each one stands for; a part of a row stands for one."""
        if self.place is None:
            return np.ones(len(self), dtype=np.intp)
        counts = np.bincount(self.place[self.place >= 0], minlength=len(self))
        if self.logit_index is None:
            return counts
        is_part = np.bincount(self.logit_index)[self.logit_index] > 1
        return np.where(is_part, 1, np.maximum(counts, 1))

    def arrays(self) -> list[Any]:
        """Return the arrays that the rows are made of; None stands for weights of one."""
        X: Any = self.X
        if is_sparse(X):
            table = [X.data, X.indices, X.indptr]
        else:
            table = [X.table, X.index] if isinstance(X, Selection) else [X]
        return [*table, self.y, self.sample_weight]

    def astype(self, dtype: np.typing.DTypeLike) -> Rows:
        """Return the rows in another dtype."""
        weight = None if self.sample_weight is None else self.sample_weight.astype(dtype)
        return replace(self, X=self.X.astype(dtype), y=self.y.astype(dtype), sample_weight=weight)

    def take(self, index: np.ndarray) -> Rows:
        """Return the rows at these positions; of one taken twice, the last is where it stands."""
        moved_to = np.full(len(self), -1, position_dtype(len(self)))
        moved_to[index] = np.arange(len(index))
        others = (self.sample_weight, self.group, self.logit_index)
        weight, group, logit_index = (None if a is None else a[index] for a in others)
        return Rows(
            self.X[index], self.y[index], weight, self._follow(moved_to), group, logit_index
        )

    def cut(self, index: np.ndarray, share: np.ndarray) -> Rows:
        """Return the rows at these positions in order, some of them again and again: parts.

        `share` is what each part has of the weight.
        """
        parts = self.take(index)
        logit_index = index if self.logit_index is None else parts.logit_index
        return replace(parts, sample_weight=parts.weights * share, logit_index=logit_index)

    def select(self, index: np.ndarray) -> Rows:
        """Return the rows at these positions, of a dense table without a copy of it."""
        if is_sparse(self.X) or isinstance(self.X, Selection):
            return self.take(index)
        none = replace(self, X=self.X[:, :0]).take(index)
        return replace(none, X=Selection(self.X, index.astype(position_dtype(len(self)))))

    def gather(self) -> Rows:
        """Return the rows with a table of their own, if they have been selected from another."""
        return replace(self, X=self.X[:]) if isinstance(self.X, Selection) else self

    def _follow(self, moved_to: np.ndarray) -> np.ndarray:
        """Return the place of each given row when the one at i has moved to `moved_to[i]`."""
        if self.place is None:
            return moved_to
        return np.append(moved_to, -1)[self.place]  # position -1, for none, is the last: none again

    def with_groups(self, group: np.ndarray) -> Rows:
        """Return the rows with the number of the group of each one that was given."""
        own = group
        if self.place is not None:
            is_here = self.place >= 0
            own = np.empty(len(self), group.dtype)
            own[self.place[is_here]] = group[is_here]
        rows = replace(self, group=own)
        return replace(rows, group=rows._groups_of(np.arange(len(self))))

    def drop_weightless(self) -> Rows:
        """Leave out rows of weight zero, which must change nothing, not even the random numbers."""
        if self.sample_weight is None or self.sample_weight.all():
            return self
        return self.take(np.flatnonzero(self.sample_weight))

    def merge_identical(self) -> Rows:
        """Make one row of identical ones, with the sum of their weights, in a canonical order.

        Where all rows form one batch the cost stays the same function, and a row of weight k is the
        same as k rows to the last bit (class weights add rounding), under dropout too.
        """
        if is_sparse(self.X):
            return self._merge_identical_sparse()
        group = np.zeros(len(self)) if self.group is None else self.group
        keys = np.column_stack([self.X, self.y, group.astype(self.X.dtype)])
        table, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        place = place.ravel()
        weight = np.bincount(place, weights=self.sample_weight).astype(np.float64)
        X, y = np.ascontiguousarray(table[:, :-2]), table[:, -2].copy()
        return Rows(X, y, weight, self._follow(place), self._groups_of(first))

    def _groups_of(self, index: np.ndarray) -> np.ndarray | None:
        """Return the groups of the rows at these positions, numbered anew in their order."""
        if self.group is None:
            return None
        return number_by_first(self.group[index])

    def _merge_identical_sparse(self) -> Rows:
        """Do the same by the values that a sparse row has, and by their places."""
        X = self.X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
        members: dict[bytes, list[int]] = {}
        for i, (start, stop) in enumerate(pairwise(X.indptr)):
            values = [X.indices[start:stop], X.data[start:stop], self.y[i : i + 1]]
            if self.group is not None:
                values.append(self.group[i : i + 1])
            members.setdefault(b"".join(v.tobytes() for v in values), []).append(i)
        groups = sorted(members.values(), key=lambda group: self._sorting_key(X, group[0]))
        weight = self.weights
        firsts = np.array([group[0] for group in groups])
        merged = np.array([weight[group].sum(dtype=np.float64) for group in groups])
        place = np.empty(len(self), np.intp)
        for position, group in enumerate(groups):
            place[group] = position
        return Rows(X[firsts], self.y[firsts], merged, self._follow(place), self._groups_of(firsts))

    def _sorting_key(self, X: Any, i: int) -> list[tuple[float, ...]]:
        """Return what sorts row i of a sparse table among the others as if they were dense.

        Where two rows differ first, the one with a positive number is greater than one with none
        yet, the more so the further left it is, and one with a negative number is less.
        """
        row = slice(X.indptr[i], X.indptr[i + 1])
        values = zip(X.indices[row].tolist(), X.data[row].tolist(), strict=True)
        entries = [(1, -j, value) if value > 0 else (-1, j, value) for j, value in values]
        return [*entries, (0, 0, 0.0), (float(self.y[i]),)]

    def normalize_weights(self) -> Rows:
        """Scale the weights to mean 1; equal weights become None, the same as no weights."""
        weight = self.sample_weight
        if weight is None or weight.min() == weight.max():
            return replace(self, sample_weight=None)
        scaled = weight / weight.max().astype(np.float64)  # whose sum is in range
        scaled /= scaled.mean()
        return replace(self, sample_weight=scaled.astype(self.X.dtype, copy=False))


def number_by_first(values: np.ndarray) -> np.ndarray:
    """Return the same number for equal values, from 0 in the order in which they come first."""
    _, first, number = np.unique(values, return_index=True, return_inverse=True)
    return first.argsort().argsort()[number]


def checksum(*parts: Any) -> int:
    """Return the CRC-32 of arrays and bytes, in their order; None stands for nothing."""
    value = 0
    for part in parts:
        is_bytes = part is None or isinstance(part, bytes)
        content: Any = (part or b"") if is_bytes else np.ascontiguousarray(part)
        value = zlib.crc32(content, value)
    return value
