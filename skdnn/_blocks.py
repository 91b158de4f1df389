"""Large tables in blocks of rows, and rows by their positions: neither needs a second table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BLOCK_VALUES = 1 << 17
"""Numbers in a block of a table: a megabyte in float64, which the cache of a core holds."""


def cut_rows(n_rows: int, n_columns: int = 1, n_values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Yield the blocks of rows of a table of so many columns, with `n_values` numbers at most."""
    size = max(1, n_values // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


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
