"""Mini-batches: labels gathered once for an epoch, rows for each batch into a fixed buffer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._folds import Folds
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
    sizes : set of int
        The numbers of rows that batches have: one or two.
    y, sample_weight : ndarray of shape (n_members or 1, n_samples), or None
        Labels and weights in the order of the current epoch.
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
        self.rows, self._is_sparse = rows, is_sparse(rows.X)
        self.n_seen = len(rows) if folds is None else folds.n_training
        self.n_samples = len(rows) if is_whole else self.n_seen
        self.batch_size = min(batch_size, self.n_samples)
        self.n_batches = -(-self.n_samples // self.batch_size)
        n_last = self.n_samples - (self.n_batches - 1) * self.batch_size
        self.sizes = {self.batch_size, n_last}
        self.y = rows.y[np.newaxis]
        self.sample_weight = None if rows.sample_weight is None else rows.sample_weight[np.newaxis]
        self._rngs, self._factors = rngs, None
        self._own: list[np.ndarray] = []  # for each member the positions of its rows
        if members is None:
            members = range(0 if folds is None else folds.n_members)
        if is_whole and folds is not None:
            self.sample_weight = folds.training_weights(rows, members).astype(rows.y.dtype)
        elif folds is not None:
            self._own = [folds.training_index(member) for member in members]
            self._factors = self._bring_to_mean_one()
        elif rngs is not None and not is_whole:
            self._own = [np.arange(len(rows))] * len(rngs)
        if self._own:
            n_members, n_features = len(self._own), rows.X.shape[1]
            self._order = np.empty((n_members, self.n_samples), np.intp)
            if not self._is_sparse:
                shapes = {size: (n_members, size, n_features) for size in self.sizes}
                self._x = {size: np.empty(shape, rows.X.dtype) for size, shape in shapes.items()}

    def __iter__(self) -> Iterator[tuple[slice, InputBatch]]:
        """Begin an epoch: yield the place of each batch in it, and its x with a member axis."""
        if self._own:
            self._put_in_order()
        for start in range(0, self.n_samples, self.batch_size):
            columns = slice(start, min(start + self.batch_size, self.n_samples))
            yield columns, self._take(columns)

    def _take(self, columns: slice) -> InputBatch:
        X = self.rows.X
        if not self._own:
            return SparseBatch([X[columns]]) if self._is_sparse else X[np.newaxis, columns]
        if self._is_sparse:
            return SparseBatch([X[index] for index in self._order[:, columns]])
        # mode="clip" writes straight into `out`; the default would go through a copy.
        x = self._x[columns.stop - columns.start]
        return X.take(self._order[:, columns], axis=0, out=x, mode="clip")

    def _put_in_order(self) -> None:
        """Choose each member's rows of an epoch, and gather their labels and weights."""
        for member, (own, order) in enumerate(zip(self._own, self._order, strict=True)):
            index = own if self._rngs is None else self._rngs[member].permutation(own)
            order[:] = index[: self.n_samples]
        self.y = self.rows.y[self._order]
        if self.rows.sample_weight is not None:
            self.sample_weight = self.rows.sample_weight[self._order]
            if self._factors is not None:
                self.sample_weight *= self._factors

    def _bring_to_mean_one(self) -> np.ndarray | None:
        """Return what each member's weights are multiplied by, for a mean of 1 on its own rows."""
        weight = self.rows.sample_weight
        if weight is None:
            return None
        means = [weight[own].mean(dtype=np.float64) for own in self._own]
        return (1.0 / np.array(means)[:, np.newaxis]).astype(weight.dtype)
