"""Mini-batches, gathered by blocks of them, the rows into a fixed buffer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ._sparse import InputBatch, SparseBatch, is_sparse
from .losses import BLOCK_ROWS
from .training.folds import Folds
from .training.rows import Rows, Selection, position_dtype
from .utils import BLOCK_VALUES, cut_rows


class Minibatches:
    """Cut the training rows into batches, each member's in its own order.

    Several batches that follow each other, or all of a small table, make a block, of `BLOCK_VALUES`
    numbers of a member at most, if it is not a single batch. It is gathered into arrays of its own:
    the rows of all members in a whole epoch would take many times the table.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Rows in a batch; the last one may be shorter.
    rngs : list of Generator or None
        One stream for each member to shuffle with. None leaves the rows in their order, the same
        for all members, and so does a batch that holds all of them: nothing is copied then.
    folds : Folds or None, default=None
        Rows that each member is not to see. In a batch of all rows their weight is zero; else an
        epoch has as many rows as every member has, and who has more leaves out others each time,
        or without shuffling its last ones.
    members : range or None, default=None
        The members that batches are for, where folds are for others too; None stands for all.

    Attributes
    ----------
    n_batches : int
    n_samples : int
        Rows that the batches of an epoch have together.
    n_seen : int
        Rows that a member learns from in an epoch.
    sizes : Counter
        How many batches of an epoch have so many rows: one number of rows, or two.
    block_size : int
        Rows of a block, which are whole batches; the last one may be shorter.
    y, sample_weight : ndarray of shape (n_members or 1, n_block), or None
        Labels and weights of the current block.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        rngs: list[np.random.Generator] | None,
        folds: Folds | None = None,
        members: range | None = None,
    ) -> None:
        is_whole = len(rows) <= batch_size
        # Who takes all rows at once would gather the same ones in each epoch.
        self.rows = rows = rows.gather() if is_whole else rows
        self._is_sparse, self._rngs, self._folds = is_sparse(rows.X), rngs, folds
        self.n_seen = len(rows) if folds is None else folds.n_training
        self.n_samples = len(rows) if is_whole else self.n_seen
        self.batch_size = min(batch_size, self.n_samples)
        self.n_batches = -(-self.n_samples // self.batch_size)
        n_last = self.n_samples - (self.n_batches - 1) * self.batch_size
        self.sizes = Counter({self.batch_size: self.n_batches - 1})
        self.sizes[n_last] += 1
        n_rows = min(BLOCK_ROWS, BLOCK_VALUES // max(1, rows.X.shape[1]))
        n_batches = max(1, n_rows // self.batch_size)
        self.block_size = min(n_batches * self.batch_size, self.n_samples)
        if members is None:
            members = range(0 if folds is None else folds.n_members)
        self._members, self._factors = members, None
        self._weight = None if rows.sample_weight is None else rows.sample_weight[np.newaxis]
        self._counts: list[int] = []  # of the rows that each member has, where orders differ
        if is_whole and folds is not None:
            self._weight = folds.training_weights(rows, members).astype(rows.y.dtype)
        elif folds is not None:
            self._counts = [folds.count_training(member) for member in members]
            self._factors = self._bring_to_mean_one(folds)
        elif rngs is not None and not is_whole:
            self._counts = [len(rows)] * len(rngs)
        if self._counts and not self._is_sparse:
            self._x = np.empty((len(self._counts), self.block_size, rows.X.shape[1]), rows.X.dtype)
        self.y, self.sample_weight = rows.y[np.newaxis], self._weight

    def __iter__(self) -> Iterator[InputBatch]:
        """Begin an epoch: yield the x of each block, by members."""
        order = self._draw_order() if self._counts else None
        for first in range(0, self.n_samples, self.block_size):
            block = slice(first, min(first + self.block_size, self.n_samples))
            self._enter(block, order)
            yield self._take(block, order)

    def cut(self, n_rows: int, n_batches: int = 1) -> Iterator[slice]:
        """Cut a block of so many rows into so many batches each, of the same size."""
        n_full = n_rows - n_rows % self.batch_size
        yield from cut_rows(n_full, n_values=n_batches * self.batch_size)
        if n_full < n_rows:
            yield slice(n_full, n_rows)

    def count(self, columns: slice) -> int:
        """Return how many batches make up such a part of a block."""
        return max(1, (columns.stop - columns.start) // self.batch_size)

    def _enter(self, block: slice, order: np.ndarray | None) -> None:
        """Gather the labels and weights of a block."""
        if order is None:
            self.y = self.rows.y[np.newaxis, block]
            self.sample_weight = None if self._weight is None else self._weight[:, block]
            return
        self.y = self.rows.y[order[:, block]]
        if self.rows.sample_weight is not None:
            self.sample_weight = self.rows.sample_weight[order[:, block]]
            if self._factors is not None:
                self.sample_weight *= self._factors

    def _take(self, block: slice, order: np.ndarray | None) -> InputBatch:
        """Return the x of a block, with an axis of members."""
        X = self.rows.X
        if order is None:
            return SparseBatch([X[block]]) if self._is_sparse else X[block][np.newaxis]
        if self._is_sparse:
            return SparseBatch([X[index] for index in order[:, block]])
        for its_order, x in zip(order[:, block], self._x, strict=True):
            own = x[: len(its_order)]
            if isinstance(X, Selection):
                X.take_into(its_order, own)
            else:
                # mode="clip" writes straight into `out`; the default would go through a copy.
                X.take(its_order, axis=0, out=own, mode="clip")
        return self._x[:, : block.stop - block.start]

    def _draw_order(self) -> np.ndarray:
        """Return the positions of each member's rows in the order of an epoch, (n_members, n)."""
        order = np.empty((len(self._counts), max(self._counts)), position_dtype(len(self.rows)))
        for member, (count, places) in enumerate(zip(self._counts, order, strict=True)):
            self._write_own(member, places)
            if self._rngs is not None:
                self._rngs[member].shuffle(places[:count])
        return order[:, : self.n_samples]

    def _write_own(self, i: int, out: np.ndarray) -> None:
        """Write the positions of the rows of the i-th member, which `out` may have more room for.

        Block by block: what NumPy finds comes in integers of twice the size.
        """
        n_written = 0
        for block in cut_rows(len(self.rows)):
            if self._folds is None:
                found = np.arange(block.start, block.stop)
            else:
                found = self._folds.training_index(self._members[i], block)
            out[n_written : n_written + len(found)] = found
            n_written += len(found)

    def _bring_to_mean_one(self, folds: Folds) -> np.ndarray | None:
        """Return what each member's weights are multiplied by, for a mean of 1 on its own rows."""
        weight = self.rows.sample_weight
        if weight is None:
            return None
        own = (folds.training_index(member) for member in self._members)
        means = [weight[index].mean(dtype=np.float64) for index in own]
        return (1.0 / np.array(means)[:, np.newaxis]).astype(weight.dtype)
