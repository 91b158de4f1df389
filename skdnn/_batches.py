"""Mini-batches, gathered into fixed buffers so that a step allocates nothing that grows with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ._rows import Rows


@dataclass
class Batch:
    """One batch of rows; a member axis of length 1 stands for the same rows in all members."""

    x: np.ndarray  # (n_members or 1, n_samples, n_features)
    y: np.ndarray  # (n_members or 1, n_samples)
    sample_weight: np.ndarray | None


class Minibatches:
    """Cut the training rows into batches, each member's in its own order.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Rows in a batch; the last one may be shorter and has buffers of its own. One batch that
        holds all rows is used as it lies, without a copy.
    rngs : list of Generator or None
        One stream for each member to shuffle with; None leaves the rows in their order.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        n_members: int,
        rngs: list[np.random.Generator] | None,
    ) -> None:
        self.rows, self.batch_size, self.rngs = rows, min(batch_size, len(rows)), rngs
        self.n_batches = -(-len(rows) // self.batch_size)
        self.is_whole = self.n_batches == 1
        self._order = np.tile(np.arange(len(rows)), (1 if rngs is None else n_members, 1))
        self._buffers: dict[int, Batch] = {}

    @property
    def sizes(self) -> set[int]:
        """The numbers of rows that batches have: one or two."""
        n_last = len(self.rows) - (self.n_batches - 1) * self.batch_size
        return {self.batch_size, n_last}

    def __iter__(self) -> Iterator[Batch]:
        rows = self.rows
        if self.is_whole:
            weight = None if rows.sample_weight is None else rows.sample_weight[np.newaxis]
            yield Batch(rows.X[np.newaxis], rows.y[np.newaxis], weight)
            return
        if self.rngs is not None:
            for rng, order in zip(self.rngs, self._order, strict=True):
                order[:] = rng.permutation(len(rows))
        for start in range(0, len(rows), self.batch_size):
            yield self._gather(self._order[:, start : start + self.batch_size])

    def _gather(self, index: np.ndarray) -> Batch:
        rows, n_samples = self.rows, index.shape[1]
        batch = self._buffers.get(n_samples)
        if batch is None:
            batch = self._buffers[n_samples] = Batch(
                np.empty((*index.shape, rows.X.shape[1]), rows.X.dtype),
                np.empty(index.shape, rows.y.dtype),
                None if rows.sample_weight is None else np.empty(index.shape, rows.y.dtype),
            )
        # mode="clip" writes straight into `out`, where the default would check through a copy.
        rows.X.take(index, axis=0, out=batch.x, mode="clip")
        rows.y.take(index, out=batch.y, mode="clip")
        if rows.sample_weight is not None:
            rows.sample_weight.take(index, out=batch.sample_weight, mode="clip")
        return batch
