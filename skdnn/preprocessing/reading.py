"""What an encoder reads of a table: column by column to learn from, in blocks of rows to encode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..utils import cut_rows
from .categories import Levels, describe_infinity
from .columns import EVERY_ROW, Table


def number_columns(
    table: Table, columns: Sequence[int], order: np.ndarray | None, empty: list[int]
) -> Iterator[np.ndarray]:
    """Yield numeric columns in float64, with values; note in `empty` those that have none.

    Their rows are in the order given, which may leave out some.

    Raises
    ------
    ValueError
        In the end, if there were columns with infinite values.
    """
    is_infinite = np.zeros(len(columns), dtype=bool)
    # As many at a time as make a block: a DataFrame takes its time to find each column.
    for group in cut_rows(len(columns), len(table)):
        x = table.numbers(columns[group]).T.astype(np.float64, order="C")
        is_infinite[group] = np.isinf(x).any(axis=1)
        x = x if order is None else x[:, order]
        for column, values in zip(columns[group], x, strict=True):
            if np.isnan(values).all():
                empty.append(column)
            elif not is_infinite[group].any():
                yield values
    refuse_infinite(table, columns, is_infinite)


def category_columns(
    table: Table, columns: Sequence[int], order: np.ndarray | None, empty: list[int]
) -> Iterator[tuple[int, Levels]]:
    """Yield category columns and their levels; note in `empty` those that have no value."""
    for column in columns:
        levels = table.levels(column)
        if order is not None:
            levels = Levels(levels.values, levels.codes[order])
        if (levels.codes < 0).all():
            empty.append(column)
        else:
            yield column, levels


def read_numbers(table: Table, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
    """Return numeric columns, of which there may be none, of a block of rows."""
    if columns:
        return table.numbers(columns, rows)
    return np.empty((len(range(len(table))[rows]), 0))


def refuse_infinite(table: Table, columns: Sequence[int], is_infinite: np.ndarray) -> None:
    """Refuse those of the columns that hold infinity."""
    if is_infinite.any():
        infinite = [columns[i] for i in np.flatnonzero(is_infinite).tolist()]
        raise ValueError(describe_infinity([table.labels[column] for column in infinite]))
