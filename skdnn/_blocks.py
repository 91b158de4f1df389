"""Large tables in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK_VALUES = 1 << 17
"""Numbers in a block of a table: a megabyte in float64, which the cache of a core holds."""


def cut_rows(n_rows: int, n_columns: int = 1, n_values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Yield the blocks of rows of a table of so many columns, with `n_values` numbers at most."""
    size = max(1, n_values // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))
