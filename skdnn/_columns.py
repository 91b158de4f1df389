"""Columns of a table, whoever made it: NumPy, pandas and polars through the same three methods.

A column is read as numbers (float, NaN where missing) or as codes of levels (-1 where missing).
Levels are plain Python values, so that what was learned from one kind of table meets any other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, ClassVar, Protocol

import numpy as np
from sklearn.utils import check_array

from ._levels import Levels, describe_dates, factorize_objects, hashable, merge_levels

NUMBER, CATEGORY, DATE, OTHER = "number", "category", "date", "other"
"""What a column is by its dtype; whoever reads it may want levels of numbers, or the reverse."""

EVERY_ROW = slice(None)
"""The block of rows that is the whole table."""

SINGLE = ({"float32"}, {"Float32"})
"""Names of dtypes of columns that stay float32 if all of them have it, NumPy's and pandas' own."""


class Table(Protocol):
    """What a table is to the encoder. Columns go by position; labels are for messages.

    Numbers are read in blocks of rows where a table is large. The dtype of a block is that of all.
    """

    @property
    def labels(self) -> Sequence[Any]: ...

    def __len__(self) -> int: ...

    def kind(self, column: int) -> str: ...

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray: ...

    def levels(self, column: int) -> Levels: ...


def is_frame(X: Any) -> bool:
    """Say whether X is a DataFrame of pandas or polars, or of a library that looks like pandas."""
    return (hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2) or _is_polars(X)


def open_table(X: Any, codes: Sequence[int] = ()) -> Table:
    """Look at a DataFrame, or a two-dimensional array, as columns; `codes` are categories.

    Raises
    ------
    ValueError
        If a column holds times, or what is neither a number nor a category; or if X is empty.
    """
    if is_frame(X):
        # The checks of an array, and their messages, on one of this shape that costs nothing.
        check_array(np.broadcast_to(0.0, X.shape), ensure_all_finite=False)
        table: Table = PolarsTable(X) if _is_polars(X) else PandasTable(X)
    else:
        table = ArrayTable(X, codes)
    kinds = [table.kind(column) for column in range(len(table.labels))]
    dates = [label for label, kind in zip(table.labels, kinds, strict=True) if kind == DATE]
    if dates:
        raise ValueError(describe_dates(dates))
    others = [label for label, kind in zip(table.labels, kinds, strict=True) if kind == OTHER]
    if others:
        raise ValueError(
            f"Columns {others!r} of X hold neither numbers nor categories (complex numbers, lists "
            "or structures, for instance). Take numbers from them, or leave them out."
        )
    return table


def name_categories(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that are categories by their dtype."""
    table = open_table(X)
    return [label for i, label in enumerate(table.labels) if table.kind(i) == CATEGORY]


def name_levels(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that have a dtype for levels alone."""
    return [
        name
        for name, dtype in zip(X.columns, X.dtypes, strict=True)
        if str(dtype).lower().startswith(("category", "categorical", "enum"))
    ]


class ArrayTable:
    """A NumPy array: all columns are numbers, whatever they hold, but for codes of an encoder."""

    def __init__(self, X: np.ndarray, codes: Sequence[int] = ()) -> None:
        self._X, self._codes = X, set(codes)
        self.labels = range(X.shape[1])

    def __len__(self) -> int:
        return len(self._X)

    def kind(self, column: int) -> str:
        if self._X.dtype.kind in "mM":
            return DATE
        return CATEGORY if column in self._codes else NUMBER

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
        X = self._X[rows]
        if len(columns) < len(self.labels):
            X = X[:, list(columns)]
        if X.dtype in (np.float32, np.float64):
            return X
        with _named(columns, self.labels, lambda column: self._X[:, column]):
            return _to_floats(X)

    def levels(self, column: int) -> Levels:
        values = self._X[:, column]
        if values.dtype.kind == "O":
            found, codes = factorize_objects(values.tolist(), self.labels[column])
        else:
            distinct, codes = np.unique(values, return_inverse=True)
            found = distinct.tolist()
        return merge_levels(found, codes, self.labels[column])


class PandasTable:
    """A DataFrame of pandas, or of a library that follows it."""

    def __init__(self, X: Any) -> None:
        self._X = X
        self._dtypes = list(X.dtypes)
        self.labels = list(X.columns)
        sparse = [
            label
            for label, dtype in zip(self.labels, self._dtypes, strict=True)
            if type(dtype).__name__ == "SparseDtype"
        ]
        if sparse:
            raise TypeError(
                "Sparse data was passed, but dense data is required. Columns "
                f"{sparse!r} are sparse; turn them into dense ones with .sparse.to_dense()."
            )

    def __len__(self) -> int:
        return len(self._X)

    def kind(self, column: int) -> str:
        dtype = self._dtypes[column]
        if dtype.kind in "mM" or type(dtype).__name__ == "PeriodDtype":
            return DATE
        if dtype.kind in "iuf":
            return NUMBER
        return CATEGORY if dtype.kind in "bOUS" else OTHER

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
        X = self._X.iloc[rows]
        if len(columns) < len(self.labels):
            X = X.iloc[:, list(columns)]
        dtypes = [self._dtypes[column] for column in columns]
        dtype = np.float32 if {dtype.name for dtype in dtypes} in SINGLE else np.float64
        is_plain = all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in dtypes)
        if is_plain:
            return X.to_numpy(dtype=dtype)
        with _named(columns, self.labels, lambda j: self._X.iloc[:, j].to_numpy(dtype=object)):
            try:
                return X.to_numpy(dtype=dtype, na_value=np.nan)
            except (TypeError, ValueError):  # categories and strings of numbers
                return _to_floats(X.to_numpy(dtype=object))

    def levels(self, column: int) -> Levels:
        values = self._X.iloc[:, column]
        if self._dtypes[column].name == "category":
            codes, found = values.cat.codes.to_numpy(), values.cat.categories
        else:
            with hashable(self.labels[column]):
                codes, found = values.factorize()
        return merge_levels(found.tolist(), codes, self.labels[column])


class PolarsTable:
    """A DataFrame of polars."""

    _CATEGORIES: ClassVar = {"String", "Categorical", "Enum", "Boolean", "Object", "Binary"}

    def __init__(self, X: Any) -> None:
        self._X = X
        self.labels = X.columns

    def __len__(self) -> int:
        return len(self._X)

    def kind(self, column: int) -> str:
        dtype = self._X.dtypes[column]
        if dtype.is_temporal():
            return DATE
        name = dtype.base_type().__name__
        if dtype.is_numeric() or name == "Null":
            return NUMBER
        return CATEGORY if name in self._CATEGORIES else OTHER

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
        import polars

        if any(self.kind(column) == CATEGORY for column in columns):
            with _named(columns, self.labels, self._objects):
                return _to_floats(np.stack([self._objects(j, rows) for j in columns], axis=1))
        dtypes = [self._X.dtypes[column].base_type() for column in columns]
        number = polars.Float32 if set(dtypes) == {polars.Float32} else polars.Float64
        names = [self.labels[column] for column in columns]
        return self._X[rows].select(polars.col(names).cast(number)).to_numpy()

    def levels(self, column: int) -> Levels:
        import polars

        values = self._X.to_series(column)
        if values.dtype == polars.Object:
            found, codes = factorize_objects(values.to_list(), self.labels[column])
            return merge_levels(found, codes, self.labels[column])
        found = values.drop_nulls().unique()
        if not len(found):
            return Levels([], np.full(len(values), -1))
        order = polars.Series(range(len(found)), dtype=polars.Int64)
        places = values.replace_strict(found, order, default=-1, return_dtype=polars.Int64)
        return merge_levels(found.to_list(), places.to_numpy(), self.labels[column])

    def _objects(self, column: int, rows: slice = EVERY_ROW) -> np.ndarray:
        return _to_objects(self._X.to_series(column)[rows].to_list())


def _is_polars(X: Any) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(X, polars.DataFrame)


def _to_objects(values: list) -> np.ndarray:
    """Make an array of objects; NumPy would look into them and find more dimensions."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _to_floats(values: np.ndarray) -> np.ndarray:
    """Convert to float64; what is missing becomes NaN."""
    if values.dtype == object:
        pandas = sys.modules.get("pandas")
        if pandas is not None:  # float() does not know what pandas calls missing
            values = np.where(pandas.isna(values), np.nan, values)
    try:
        return values.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"a number is too large for float64 ({error})") from error


@contextmanager
def _named(
    columns: Sequence[int], labels: Sequence[Any], read: Callable[[int], np.ndarray]
) -> Iterator[None]:
    """Say in an error of conversion which column it was."""
    try:
        yield
    except (TypeError, ValueError) as error:
        for column in columns:
            try:
                _to_floats(read(column))
            except (TypeError, ValueError) as reason:
                raise type(error)(
                    f"Column {labels[column]!r} of X is read as numbers, but {reason}. If it holds "
                    "categories, name it in categorical_features."
                ) from error
        raise


def _list_few(items: list) -> str:
    """Write down the items of a list, and only the first of a long one."""
    return repr(items) if len(items) <= 20 else f"{items[:20]!r} and so on"


def find_categories(categorical_features: Any, table: Table) -> np.ndarray:
    """Return which columns are categories, a boolean for each.

    Raises
    ------
    ValueError
        If `categorical_features` has what is no column of X, or is of mixed types.
    """
    n_features = len(table.labels)
    is_categorical = np.zeros(n_features, dtype=bool)
    if categorical_features is None:
        return is_categorical
    if isinstance(categorical_features, str):  # "from_dtype"
        return np.array([table.kind(column) == CATEGORY for column in range(n_features)])
    wanted = np.asarray(categorical_features, dtype=object).ravel().tolist()
    if all(isinstance(item, bool | np.bool_) for item in wanted):
        if len(wanted) not in (0, n_features):
            raise ValueError(
                "categorical_features as a boolean mask must have one entry for each of the "
                f"{n_features} features of X, got {len(wanted)}."
            )
        return np.array(wanted, dtype=bool) if wanted else is_categorical
    if all(isinstance(item, Integral) and not isinstance(item, bool) for item in wanted):
        known: list[Any] = list(range(n_features))
    elif all(isinstance(item, str) for item in wanted):
        known = list(table.labels)
        if not any(isinstance(label, str) for label in known):
            raise ValueError(
                f"categorical_features={wanted!r} are names, but X has no feature names. Pass a "
                "DataFrame with names that are strings, or indices or a boolean mask."
            )
    else:
        kinds = sorted({type(item).__name__ for item in wanted})
        raise ValueError(
            "categorical_features must be all names, all indices or all booleans, got "
            f"{', '.join(kinds)}."
        )
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(
            f"categorical_features has {unknown!r}, which X does not have; its "
            f"{n_features} features are {_list_few(known)}."
        )
    chosen = set(wanted)
    return np.array([label in chosen for label in known])
