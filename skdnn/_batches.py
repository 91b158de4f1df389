"""Mini-batches: labels gathered once for an epoch, rows for each batch into a fixed buffer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._rows import Rows
from ._sparse import InputBatch, SparseBatch, is_sparse


class Minibatches:
    """Cut the training rows into batches, each member's in its own order.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Rows in a batch; the last one may be shorter.
    rngs : list of Generator or None
        One stream for each member to shuffle with. None leaves the rows in their order, the same
        for all members, and so does a batch that holds all of them: nothing is copied then.

    Attributes
    ----------
    n_batches : int
    sizes : set of int
        The numbers of rows that batches have: one or two.
    y, sample_weight : ndarray of shape (n_members or 1, n_samples), or None
        Labels and weights in the order of the current epoch.
    """

    def __init__(self, rows: Rows, batch_size: int, rngs: list[np.random.Generator] | None) -> None:
        self.rows, self.batch_size = rows, min(batch_size, len(rows))
        self.n_batches = -(-len(rows) // self.batch_size)
        n_last = len(rows) - (self.n_batches - 1) * self.batch_size
        self.sizes = {self.batch_size, n_last}
        self.y = rows.y[np.newaxis]
        self.sample_weight = None if rows.sample_weight is None else rows.sample_weight[np.newaxis]
        self._rngs = None if self.n_batches == 1 else rngs
        self._is_sparse = is_sparse(rows.X)
        if self._rngs is not None:
            n_members, n_features = len(self._rngs), rows.X.shape[1]
            self._order = np.empty((n_members, len(rows)), np.intp)
            if not self._is_sparse:
                shapes = {size: (n_members, size, n_features) for size in self.sizes}
                self._x = {size: np.empty(shape, rows.X.dtype) for size, shape in shapes.items()}

    def __iter__(self) -> Iterator[tuple[slice, InputBatch]]:
        """Begin an epoch: yield the place of each batch in it, and its x with a member axis."""
        if self._rngs is not None:
            self._shuffle(self._rngs)
        for start in range(0, len(self.rows), self.batch_size):
            columns = slice(start, min(start + self.batch_size, len(self.rows)))
            yield columns, self._take(columns)

    def _take(self, columns: slice) -> InputBatch:
        X = self.rows.X
        if self._rngs is None:
            return SparseBatch([X[columns]]) if self._is_sparse else X[np.newaxis, columns]
        if self._is_sparse:
            return SparseBatch([X[index] for index in self._order[:, columns]])
        # mode="clip" writes straight into `out`; the default would go through a copy.
        x = self._x[columns.stop - columns.start]
        return X.take(self._order[:, columns], axis=0, out=x, mode="clip")

    def _shuffle(self, rngs: list[np.random.Generator]) -> None:
        for rng, order in zip(rngs, self._order, strict=True):
            order[:] = rng.permutation(len(self.rows))
        self.y = self.rows.y[self._order]
        if self.rows.sample_weight is not None:
            self.sample_weight = self.rows.sample_weight[self._order]
