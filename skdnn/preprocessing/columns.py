"""Columns of a table, whoever made it: NumPy, pandas and polars through the same three methods.

A column is read as numbers (float, NaN where missing) or as codes of levels (-1 where missing).
Levels are plain Python values, so that what was learned from one kind of table meets any other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Protocol

import numpy as np
from sklearn.utils import check_array

from .categories import (
    Levels,
    are_numbers,
    describe_dates,
    describe_others,
    factorize_objects,
    fill_missing,
    hashable,
    merge_levels,
)

NUMBER, CATEGORY, DATE, OTHER = "number", "category", "date", "other"
"""What a column is by its dtype; whoever reads it may want levels of numbers, or the reverse."""

STRING, OBJECT = "string", "object"
"""Categories too, unless values that may be of any type are all numbers: see `find_kind`."""

EVERY_ROW = slice(None)
"""The block of rows that is the whole table."""

SINGLE = ({"float32"}, {"Float32"})
"""Names of dtypes of columns that stay float32 if all of them have it, NumPy's and pandas' own."""


NESTED = ("list", "large_list", "fixed_size_list", "struct", "map")
"""How names of Arrow's dtypes begin that hold several values."""


class Table(Protocol):
    """What a table is to the encoder. Columns go by position; labels are for messages.

    Numbers are read in blocks of rows where a table is large. The dtype of a block is that of all.
    """

    @property
    def labels(self) -> Sequence[Any]: ...

    def __len__(self) -> int: ...

    def kind(self, column: int) -> str: ...

    def objects(self, column: int) -> list[Any]: ...

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray: ...

    def levels(self, column: int) -> Levels: ...


def is_frame(X: Any) -> bool:
    """Say whether X is a DataFrame of pandas or polars, or of a library that looks like pandas."""
    return (hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2) or _is_polars(X)


def is_sparse_frame(X: Any) -> bool:
    """Say whether X is a DataFrame of pandas with sparse columns alone, as good as a matrix."""
    return is_frame(X) and hasattr(X, "sparse")


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
        raise ValueError(describe_others(others))
    return table


def name_categories(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that are categories by themselves."""
    table = open_table(X)
    return [label for i, label in enumerate(table.labels) if find_kind(table, i) == CATEGORY]


def find_kind(table: Table, column: int) -> str:
    """Say whether a column is a number or a category, by its values if its dtype does not."""
    kind = table.kind(column)
    if kind == OBJECT and are_numbers(table.objects(column)):
        return NUMBER
    return NUMBER if kind == NUMBER else CATEGORY


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

    def objects(self, column: int) -> list[Any]:
        return self._X[:, column].tolist()

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
        X = self._X[rows]
        if len(columns) < len(self.labels):
            X = X[:, list(columns)]
        if X.dtype in (np.float32, np.float64):
            return X
        if X.dtype.kind in "biu":
            return X.astype(np.float64)
        numbers = np.empty(X.shape)
        for i, column in enumerate(columns):
            numbers[:, i] = _to_floats(X[:, i], self.labels[column])
        return numbers

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
        is_sparse = [type(dtype).__name__ == "SparseDtype" for dtype in X.dtypes]
        if any(is_sparse):  # one value for each row, as the numbers beside them
            X = X.copy(deep=False)
            for column in np.flatnonzero(is_sparse).tolist():
                X.isetitem(column, X.iloc[:, column].sparse.to_dense())
        self._X = X
        self._dtypes = list(X.dtypes)
        self.labels = list(X.columns)

    def __len__(self) -> int:
        return len(self._X)

    def kind(self, column: int) -> str:
        dtype = self._dtypes[column]
        if dtype.kind in "mM" or type(dtype).__name__ == "PeriodDtype":
            return DATE
        if dtype.kind in "iuf":
            return NUMBER
        if dtype.name.startswith(NESTED):
            return OTHER
        if dtype.kind in "US" or dtype.name in ("string", "str"):
            return STRING
        if dtype.kind == "b" or dtype.name.startswith(("category", "interval", "dictionary")):
            return CATEGORY
        return OBJECT if dtype.kind == "O" else OTHER

    def objects(self, column: int) -> list[Any]:
        return self._X.iloc[:, column].to_numpy(dtype=object).tolist()

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
        X = self._X.iloc[rows]
        if len(columns) < len(self.labels):
            X = X.iloc[:, list(columns)]
        dtypes = [self._dtypes[column] for column in columns]
        is_object = np.array([dtype.kind not in "biuf" for dtype in dtypes])
        if not is_object.any():
            dtype = np.float32 if {dtype.name for dtype in dtypes} in SINGLE else np.float64
            is_plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
            return X.to_numpy(dtype) if is_plain else X.to_numpy(dtype, na_value=np.nan)
        numbers = np.empty(X.shape)
        if not is_object.all():
            others = X.iloc[:, np.flatnonzero(~is_object)]
            numbers[:, ~is_object] = others.to_numpy(np.float64, na_value=np.nan)
        for i in np.flatnonzero(is_object).tolist():
            values = X.iloc[:, i].to_numpy(dtype=object)
            numbers[:, i] = _to_floats(values, self.labels[columns[i]])
        return numbers

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

    _KINDS: ClassVar = {
        "String": STRING,
        "Object": OBJECT,
        **dict.fromkeys(["Categorical", "Enum", "Boolean", "Binary"], CATEGORY),
    }

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
        return self._KINDS.get(name, OTHER)

    def objects(self, column: int) -> list[Any]:
        return self._X.to_series(column).to_list()

    def numbers(self, columns: Sequence[int], rows: slice = EVERY_ROW) -> np.ndarray:
        import polars

        X, dtypes = self._X[rows], [self._X.dtypes[column].base_type() for column in columns]
        number = polars.Float32 if set(dtypes) == {polars.Float32} else polars.Float64
        names = [self.labels[column] for column in columns]
        is_object = np.array([self.kind(column) != NUMBER for column in columns])
        if not is_object.any():
            return X.select(polars.col(names).cast(number)).to_numpy()
        numbers = np.empty((len(X), len(names)))
        for i, name in enumerate(names):
            if is_object[i]:
                numbers[:, i] = _to_floats(_to_objects(X[name].to_list()), name)
            else:
                numbers[:, i] = X[name].cast(number).to_numpy()
        return numbers

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


def _is_polars(X: Any) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(X, polars.DataFrame)


def _to_objects(values: list) -> np.ndarray:
    """Make an array of objects; NumPy would look into them and find more dimensions."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _to_floats(values: np.ndarray, label: Any) -> np.ndarray:
    """Convert a column to float64; what is missing becomes NaN."""
    if values.dtype == object:
        values = fill_missing(values, label)
    try:
        return values.astype(np.float64)
    except OverflowError as error:
        reason: Exception = ValueError(f"a number is too large for float64 ({error})")
    except (TypeError, ValueError) as error:
        reason = error
    raise type(reason)(
        f"Column {label!r} of X is read as numbers, but {str(reason).rstrip('.')}. If it holds "
        "categories, name it in categorical_features."
    ) from reason


def list_few(items: list) -> str:
    """Write down the items of a list, and only the first of a long one."""
    return repr(items) if len(items) <= 20 else f"{items[:20]!r} and {len(items) - 20} more"


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
        return np.array([find_kind(table, j) == CATEGORY for j in range(n_features)])
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
            f"{n_features} features are {list_few(known)}."
        )
    chosen = set(wanted)
    return np.array([label in chosen for label in known])
