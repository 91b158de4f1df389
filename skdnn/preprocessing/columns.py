"""Tables of all libraries, and their columns.

A column is read as numbers (float, NaN where missing) or as levels, which are plain Python values,
so that an encoder fitted to a table of one library encodes those of another.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import count
from numbers import Integral
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.stable.v2.dependencies import is_into_dataframe, is_pandas_dataframe
from scipy.sparse import issparse
from sklearn.utils import check_array

from ..utils import fill_masked, find_stack_level
from .categories import DATES, INFINITE, OTHERS, Levels, are_numbers, to_floats, to_levels
from .column_warnings import list_few

NUMBER, CATEGORY, DATE, OTHER = "number", "category", "date", "other"
"""What a column is by its dtype. Numbers may still be read as levels, and categories as numbers."""

STRING, OBJECT = "string", "object"
"""Categories too, unless values that may be of any type are all numbers."""

KINDS = {nw.String: STRING, nw.Categorical: CATEGORY, nw.Enum: CATEGORY, nw.Boolean: CATEGORY}
"""Kinds by dtype. Others that are neither temporal nor numeric nor nested are those of objects."""

FLOATS = {nw.Float32, nw.Float64, nw.Boolean, nw.Int8, nw.Int16, nw.Int32, nw.Int64} | {
    *(nw.UInt8, nw.UInt16, nw.UInt32, nw.UInt64)
}
"""Dtypes that libraries convert to floats. Decimals are not: some libraries round them twice."""

EVERY_ROW = slice(0, None)  # narwhals before 2.14 takes no slice without a start
"""The block of rows that is the whole table."""


def take_table(X: Any, *, has_any_rows: bool = False) -> Any:
    """Return a table with missing values for masked ones; one of dask is computed.

    An encoder of the user's own, such as a DictVectorizer, may take rows of any kind.

    Raises
    ------
    TypeError
        If it is in a container without rows and columns, with what to do about it.
    """
    X = nw.to_native(X, pass_through=True)
    if type(X).__module__.partition(".")[0] == "dask":
        X = X.compute()
    advice = _find_advice(X, has_any_rows=has_any_rows)
    if advice is not None:
        raise TypeError(
            "X must be a table of shape (n_samples, n_features), such as a two-dimensional array "
            f"or a DataFrame, got {advice}"
        )
    if type(X).__name__ == "RecordBatch":
        return nw.from_arrow(X, backend="pyarrow").to_native()
    return fill_masked(X)


def _find_advice(X: Any, *, has_any_rows: bool) -> str | None:
    """Return what X is and how to make a table of it, or None if it is one."""
    if issparse(X):  # some of which are dicts too
        return None
    name = type(X).__name__
    if isinstance(X, Mapping):
        rows = "X" if any(np.ndim(value) for value in X.values()) else "[X]"
        return f"a {name}. Pass pandas.DataFrame({rows}), or polars.DataFrame({rows})."
    if name == "LazyFrame":
        return "a LazyFrame, which has not been computed yet. Pass X.collect()."
    if X is None or isinstance(X, str | bytes | Set | Iterator):
        return f"{X!r}." if X is None else f"a {name}. Pass a list of rows."
    labels = list(getattr(X, "column_names", getattr(X, "columns", ())))  # of Arrow; of others
    if len(set(labels)) < len(labels):
        repeated = list_few([label for label, n in Counter(labels).items() if n > 1])
        return f"a {name} in which several columns have the same name, {repeated}. Rename them."
    if has_any_rows:
        return None
    if isinstance(X, list | tuple) and any(isinstance(row, Mapping) for row in X):
        return f"a {name} of dicts. Pass pandas.DataFrame(X), or polars.DataFrame(X)."
    if getattr(getattr(X, "dtype", None), "names", None):
        return "an array with named fields. Pass pandas.DataFrame(X)."
    return None


def is_frame(X: Any) -> bool:
    """Say whether X is a DataFrame, or a Table of Arrow: whatever narwhals reads as one."""
    return not isinstance(X, np.ndarray) and is_into_dataframe(X)


def is_sparse_frame(X: Any) -> bool:
    """Say whether X is a DataFrame of pandas that a sparse matrix can be made of.

    All columns must be sparse and leave out zeros; all must be numbers, or all booleans.
    """
    if not (is_frame(X) and hasattr(X, "sparse")):
        return False
    kinds = {dtype.subtype.kind for dtype in X.dtypes}
    has_zeros = all(dtype.fill_value == 0 for dtype in X.dtypes)
    return has_zeros and (kinds <= set("iuf") or kinds == {"b"})


def make_dense(X: Any) -> Any:
    """Return a DataFrame of pandas with its sparse columns dense, and any other table as it is."""
    if not is_pandas_dataframe(X):
        return X
    dtypes = {
        label: dtype.subtype for label, dtype in X.dtypes.items() if hasattr(dtype, "fill_value")
    }
    if not dtypes:
        return X
    warnings.warn(
        "pandas.DataFrame with sparse columns found. They are converted to dense ones: "
        f"{list_few(list(dtypes))}.",
        UserWarning,
        stacklevel=find_stack_level(),
    )
    return X.astype(dtypes)


class Table:
    """A table as the encoder reads it. Columns go by position; labels are for messages."""

    X: Any
    labels: Sequence[Any]
    kinds: list[str]  # what each column is by its dtype
    has_floats: np.ndarray  # whether `floats` reads it
    is_single: np.ndarray  # whether its numbers are float32

    def __len__(self) -> int:
        return len(self.X)

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        """Return columns of numbers, in the dtype that `choose_dtype` says."""
        raise NotImplementedError

    def choose_dtype(self, columns: list[int]) -> np.dtype:
        """Return the dtype of these columns as numbers: float32 if that of all, else float64."""
        is_single = bool(columns) and self.is_single[columns].all()
        return np.dtype(np.float32 if is_single else np.float64)

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        """Return the values of a column of any kind."""
        raise NotImplementedError

    def numbers(self, columns: list[int], rows: slice = EVERY_ROW) -> np.ndarray:
        """Return columns, at least one, as numbers.

        Raises
        ------
        ValueError
            If there is infinity among them.
        """
        if self.has_floats[columns].all():
            x = self.floats(columns, rows)
        else:
            floats = [j for j in columns if self.has_floats[j]]
            found = dict(zip(floats, self.floats(floats, rows).T, strict=True)) if floats else {}
            for j in set(columns) - set(floats):
                found[j] = to_floats(self.objects(j, rows), self.labels[j])
            x = np.column_stack([found[j] for j in columns])
        is_infinite = np.isinf(x).any(axis=0)
        if is_infinite.any():
            places = np.flatnonzero(is_infinite).tolist()
            raise ValueError(INFINITE.format([self.labels[columns[place]] for place in places]))
        return x

    def distinct(self, column: int) -> tuple[list[Any], np.ndarray]:
        """Return the values that occur in a column, and for each row which one it has."""
        places: dict[Any, int] = defaultdict(count().__next__)
        values = self.objects(column)
        codes = np.fromiter(map(places.__getitem__, values), np.intp, len(values))
        return list(places), codes

    def is_category(self, column: int) -> bool:
        """Say whether a column is a category by its dtype, or else by its values."""
        kind = self.kinds[column]
        return kind != NUMBER and not (kind == OBJECT and are_numbers(self.objects(column)))

    def levels(self, column: int) -> Levels:
        """Return a column as levels."""
        label = self.labels[column]
        try:
            return to_levels(*self.distinct(column), label)
        except TypeError as error:  # a value without a hash, such as a list
            raise TypeError(
                f"Column {label!r} of X cannot be read as categories: an argument must be a string "
                f"or a number, but {error}. Turn these values into strings, or leave the column "
                "out."
            ) from error


class ArrayTable(Table):
    """A NumPy array: numbers, but for codes of an encoder, and for strings that are no numbers."""

    def __init__(self, X: np.ndarray, codes: Sequence[int] = ()) -> None:
        self.X, self.labels = X, range(X.shape[1])
        kind = {"m": DATE, "M": DATE, "O": OBJECT, "U": OBJECT, "T": OBJECT}.get(
            X.dtype.kind, NUMBER
        )
        self.kinds = [kind] * len(self.labels)
        self.has_floats = np.full(len(self.labels), X.dtype.kind in "biuf")
        self.is_single = np.full(len(self.labels), X.dtype == np.float32)
        for column in codes:
            self.kinds[column] = CATEGORY

    def is_category(self, column: int) -> bool:
        if self.kinds[column] != OBJECT:
            return super().is_category(column)
        strings = [value for value in self.objects(column) if isinstance(value, str)]
        try:
            np.array(strings, np.float64)  # of an array these are numbers, as for scikit-learn
        except ValueError:
            return True
        return False

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        X = self.X[rows] if len(columns) == len(self.labels) else self.X[rows, columns]
        return X.astype(self.choose_dtype(columns), copy=False)

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        return self.X[rows, column].tolist()


class FrameTable(Table):
    """A DataFrame of any library that narwhals knows."""

    def __init__(self, X: nw.DataFrame[Any]) -> None:
        self.X, self.labels, self._dtypes = X, X.columns, list(X.schema.values())
        self.kinds = [self._kind_of(dtype) for dtype in self._dtypes]
        self.has_floats = np.array([dtype.base_type() in FLOATS for dtype in self._dtypes])
        self.is_single = np.array([dtype == nw.Float32 for dtype in self._dtypes])

    @staticmethod
    def _kind_of(dtype: Any) -> str:
        if dtype.is_temporal():
            return DATE
        if dtype.is_nested():
            return OTHER
        return NUMBER if dtype.is_numeric() else KINDS.get(dtype.base_type(), OBJECT)

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        X = self.X if len(columns) == len(self.labels) else self.X[:, columns]
        X = X[rows] if len(range(len(self))[rows]) < len(self) else X
        if any(self._dtypes[column] == nw.Boolean for column in columns):
            X = X.select(nw.all().cast(nw.Float64))
        return X.to_numpy().astype(self.choose_dtype(columns), copy=False)

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        values = self.X.get_column(self.labels[column])[rows]
        if self._dtypes[column] == nw.Categorical and values.implementation.is_pyarrow():
            dictionary = values.to_native()
            return dictionary.cast(dictionary.type.value_type).to_pylist()  # else 8 times as slow
        return values.to_list()

    def distinct(self, column: int) -> tuple[list[Any], np.ndarray]:
        values = self.X.get_column(self.labels[column]).to_native()
        try:
            codes, found = values.factorize()  # ten times as fast, where it is
        except (AttributeError, NotImplementedError, OverflowError):  # of pandas 2: maps, 10**400
            return super().distinct(column)
        return found.tolist(), codes


def open_columns(X: Any, codes: Sequence[int] = ()) -> Table:
    """Return the columns of a DataFrame or a two-dimensional array; `codes` are categories.

    Raises
    ------
    ValueError
        If a column holds times, or what is neither a number nor a category; or if X is empty.
    """
    if is_frame(X):
        # The checks of an array, and their messages, on one of this shape that costs nothing.
        check_array(np.broadcast_to(0.0, X.shape), ensure_all_finite=False)
        table: Table = FrameTable(nw.from_native(X))
    else:
        table = ArrayTable(X, codes)
    for unfit, message in ((DATE, DATES), (OTHER, OTHERS)):
        if unfit in table.kinds:
            kinds = zip(table.labels, table.kinds, strict=True)
            raise ValueError(message.format([label for label, kind in kinds if kind == unfit]))
    return table


def name_categories(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that are categories by themselves.

    Raises
    ------
    ValueError
        If a column holds times, or what is neither a number nor a category.
    """
    table = open_columns(X)
    places = [j for j in range(len(table.labels)) if table.is_category(j)]
    for j in places:
        table.levels(j)  # refuses times among objects
    return [table.labels[j] for j in places]


def name_levels(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that have a dtype for levels alone."""
    schema = nw.from_native(X).schema
    return [name for name, dtype in schema.items() if dtype in (nw.Categorical, nw.Enum)]


def find_categories(categorical_features: Any, table: Table) -> np.ndarray:
    """Return which columns are categories, a boolean for each.

    Raises
    ------
    ValueError
        If `categorical_features` has an entry that is not a column of X, or is of mixed types.
    """
    n_features = len(table.labels)
    if categorical_features is None:
        return np.zeros(n_features, dtype=bool)
    if isinstance(categorical_features, str):  # "from_dtype"
        return np.array([*map(table.is_category, range(n_features))])
    wanted = np.asarray(categorical_features, dtype=object).ravel().tolist()
    if wanted and all(isinstance(item, bool | np.bool_) for item in wanted):
        if len(wanted) != n_features:
            raise ValueError(
                "categorical_features as a boolean mask must have one entry for each of the "
                f"{n_features} features of X, got {len(wanted)}."
            )
        return np.array(wanted, dtype=bool)
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
