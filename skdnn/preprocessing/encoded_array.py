"""The matrix that an encoder returns, which remembers what its columns are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.stable.v2.dependencies import is_pandas_dataframe

CONTINUOUS, UNMARKED, FLAG = -2, -1, 0
"""Marks of numbers to embed, of columns of other origin, and of flags. The mark of codes is how
many there are."""


class EncodedArray(np.ndarray):
    """A matrix with a mark for each column, so that codes are not read as numbers.

    A code is the number of a level. Rows and columns of the matrix, copies, and it side by side
    with other arrays keep their marks. What is computed from it has none.
    """

    marks: np.ndarray | None  # (n_columns,), int

    def __array_finalize__(self, obj: Any) -> None:
        self.marks = None

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        if func is np.concatenate and result.ndim == 2:  # hstack and vstack call it
            axis = args[1] if len(args) > 1 else kwargs.get("axis", 0)
            marks = [read_marks(np.asanyarray(part)) for part in args[0]]
            if axis in (1, -1):
                return mark(result, np.concatenate(marks))
            if all(np.array_equal(other, marks[0]) for other in marks):
                return mark(result, marks[0])
        return result

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if self.marks is None or part.ndim != 2 or (isinstance(key, tuple) and len(key) != 2):
            return part
        # Raveled, as `np.ix_` makes an array of shape (1, n_columns) of the columns.
        marks = self.marks[key[1]].ravel() if isinstance(key, tuple) else self.marks
        return mark(part, marks) if marks.shape == part.shape[1:] else part

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return mark, (np.asarray(self), self.marks)

    def __deepcopy__(self, memo: Any, /) -> EncodedArray:
        return self.copy()

    def copy(self, order: Any = "C") -> EncodedArray:
        """Return a copy with the same marks."""
        return mark(super().copy(order), self.marks)

    def astype(self, *args: Any, **kwargs: Any) -> EncodedArray:
        """Return the matrix in another dtype, with the same marks."""
        return mark(super().astype(*args, **kwargs), self.marks)


def mark(matrix: np.ndarray, marks: np.ndarray | None) -> EncodedArray:
    """Return a view of a matrix, which remembers what its columns are."""
    encoded = matrix.view(EncodedArray)
    encoded.marks = marks
    return encoded


def read_marks(X: Any) -> np.ndarray:
    """Return the marks of the columns of a matrix, which are unknown if it has none."""
    marks = X.marks if isinstance(X, EncodedArray) else None
    return np.full(X.shape[1], UNMARKED) if marks is None else marks


def find_codes(X: Any) -> list[int]:
    """Return the columns of an array that are marked as codes; none for any other table."""
    is_marked = isinstance(X, EncodedArray)
    return np.flatnonzero(read_marks(X) > FLAG).tolist() if is_marked else []


def to_frame(encoded: EncodedArray, library: Any, X: Any) -> Any:
    """Return a DataFrame of pandas, with the index of X, or of polars; codes are categories."""
    places = map(str, range(encoded.shape[1]))
    frame = nw.from_dict(dict(zip(places, np.asarray(encoded).T, strict=True)), backend=library)
    for j in find_codes(encoded):
        levels = nw.Enum([str(code) for code in range(read_marks(encoded)[j])])
        code = nw.col(str(j)).cast(nw.Int64).cast(nw.String).cast(levels)
        frame = frame.with_columns(code)
    table = frame.to_native()
    if library == "pandas" and is_pandas_dataframe(X):
        table.index = X.index
    return table
