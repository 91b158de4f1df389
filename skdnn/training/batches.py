"""Mini-batches: the rows that each member learns from in an epoch, and its random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .rows import Rows, Selection


class Batches:
    """The mini-batches of an epoch, each member's in its own order.

    Parameters
    ----------
    rows : Rows
        In a batch of all rows, those that a member holds out have the weight zero; else an epoch
        has as many rows as the member with the fewest, and the others leave out random rows in each
        epoch, or their last ones without shuffling.
    batch_size : int
        Rows in a batch; the last one may be shorter.
    shuffle : bool
        Whether each member shuffles its rows. A batch that holds all of them is left in order.

    Attributes
    ----------
    rows : Rows
    X : ndarray or CSR array of shape (n_table, n_features)
        The table that the rows are selected from.
    y : ndarray of shape (n_table,)
        Labels of the rows, at their positions in the table.
    batch_size : int
    n_batches : int
    sizes : tuple of int
        Of the batches, each once.
    n_samples : int
        Rows that the batches of an epoch have together.
    n_seen : int
        Rows that a member learns from in an epoch.
    is_weighted : bool
    """

    def __init__(self, rows: Rows, batch_size: int, shuffle: bool) -> None:
        self._is_whole = len(rows) <= batch_size
        # A batch of all rows would gather the same ones in each epoch.
        self.rows = rows.gather() if self._is_whole else rows
        self._is_held_out, self._shuffles = rows.is_held_out, shuffle and not self._is_whole
        self._positions = None
        self.X: Any = self.rows.X
        if isinstance(self.X, Selection):
            self.X, self._positions = self.X.table, self.X.index
        self.y = self._spread(self.rows.y)
        self.n_seen, holds_out = len(rows), self._is_held_out is not None
        if self._is_held_out is not None:
            self.n_seen -= int(np.count_nonzero(self._is_held_out, axis=1).max())
        self.n_samples = len(rows) if self._is_whole else self.n_seen
        self.batch_size = min(batch_size, self.n_samples)
        self.n_batches = -(-self.n_samples // self.batch_size)
        rest = self.n_samples % self.batch_size
        self.sizes = (self.batch_size, rest) if rest else (self.batch_size,)
        self.is_weighted = rows.sample_weight is not None or (self._is_whole and holds_out)

    def orders(self, members: Sequence[int], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Return the positions in the table of some members' rows, in the order of an epoch.

        There is a generator for each of all members.
        """
        shape, n_table = (len(members), self.n_samples), self.X.shape[0]
        orders = np.empty(shape, np.min_scalar_type(n_table))
        for order, member in zip(orders, members, strict=True):
            if self._is_held_out is None or self._is_whole:
                own = np.arange(len(self.rows))
            else:
                own = np.flatnonzero(~self._is_held_out[member])
            if self._shuffles:
                rngs[member].shuffle(own)
            own = own[: self.n_samples]
            order[:] = own if self._positions is None else self._positions[own]
        return orders

    def weight(self, member: int) -> np.ndarray | None:
        """Return the weights of a member's rows, with a mean of 1, at their positions."""
        if not self.is_weighted:
            return None
        weight = self.rows.weights.astype(np.float64)
        if self._is_held_out is not None:
            is_own = ~self._is_held_out[member]
            weight[~is_own] = 0.0
            weight *= (len(is_own) if self._is_whole else np.count_nonzero(is_own)) / weight.sum()
        return self._spread(weight.astype(self.y.dtype, copy=False))

    def _spread(self, values: np.ndarray) -> np.ndarray:
        """Return values of the rows at their positions in the table."""
        if self._positions is None:
            return values
        spread = np.zeros(len(self.X), values.dtype)
        spread[self._positions] = values
        return spread


def draw_bits(
    rngs: Sequence[np.random.Generator], members: list[int], n_steps: int, n_bits: int
) -> np.ndarray | None:
    """Draw random numbers of 16 bits, (n_members, n_steps, n_bits), from the streams of members.

    They are the same ones if each step draws by itself.
    """
    if not n_bits:
        return None
    n_words = -(-n_bits // 4)  # of 64 bits
    words = np.empty((len(members), n_steps * n_words), np.uint64)
    for own, member in zip(words, members, strict=True):
        own[:] = rngs[member].bit_generator.random_raw(n_steps * n_words)
    return words.view(np.uint16).reshape(len(members), n_steps, 4 * n_words)[..., :n_bits]
