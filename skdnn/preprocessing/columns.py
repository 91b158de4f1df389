"""What a user may hand in as a table, and its columns, whoever made it.

A column is read as numbers (float, NaN where missing) or as levels, which are plain Python values,
so that what was learned from one kind of table meets any other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

from ..utils import cut_rows, fill_masked
from .categories import DATES, INFINITE, OTHERS, Levels, are_numbers, to_floats, to_levels
from .column_warnings import list_few

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


def take_table(X: Any, *, has_any_rows: bool = False) -> Any:
    """Return a table with missing values for masked ones; tables of Arrow become DataFrames.

    An encoder of the user's own, such as a DictVectorizer, may take rows of any kind.

    Raises
    ------
    TypeError
        If it is in a container without rows and columns, with what to do about it.
    """
    library = type(X).__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(X, "to_pandas"):
        return X.to_pandas()
    advice = _find_advice(X, library, has_any_rows=has_any_rows)
    if advice is not None:
        raise TypeError(
            "X must be a table of shape (n_samples, n_features), such as a two-dimensional array "
            f"or a DataFrame, got {advice}"
        )
    return fill_masked(X)


def _find_advice(X: Any, library: str, *, has_any_rows: bool) -> str | None:
    """Say what X is and how to make a table of it, if it is none."""
    if issparse(X):  # some of which are dicts too
        return None
    name = type(X).__name__
    if isinstance(X, Mapping):
        rows = "X" if any(np.ndim(value) for value in X.values()) else "[X]"
        return f"a {name}. Pass pandas.DataFrame({rows}), or polars.DataFrame({rows})."
    if name == "LazyFrame":
        return "a LazyFrame, which has not been computed yet. Pass X.collect()."
    if library == "dask":
        return "a table of dask, which has not been computed yet. Pass X.compute()."
    if X is None or isinstance(X, str | bytes | Set | Iterator):
        return f"{X!r}." if X is None else f"a {name}. Pass a list of rows."
    if has_any_rows:
        return None
    if isinstance(X, list | tuple) and any(isinstance(row, Mapping) for row in X):
        return f"a {name} of dicts. Pass pandas.DataFrame(X), or polars.DataFrame(X)."
    if getattr(getattr(X, "dtype", None), "names", None):
        return "an array with named fields. Pass pandas.DataFrame(X)."
    return None


def is_frame(X: Any) -> bool:
    """Say whether X is a DataFrame of pandas or polars, or of a library that looks like pandas."""
    return (hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2) or _is_polars(X)


def is_sparse_frame(X: Any) -> bool:
    """Say whether X is a DataFrame of pandas with sparse columns alone, as good as a matrix."""
    return is_frame(X) and hasattr(X, "sparse")


def _is_polars(X: Any) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(X, polars.DataFrame)


class Table:
    """A table as the encoder reads it. Columns go by position; labels are for messages."""

    X: Any
    labels: Sequence[Any]
    kinds: list[str]  # what each column is by its dtype
    has_floats: list[bool]  # whether `floats` reads it

    def __len__(self) -> int:
        return len(self.X)

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        """Return columns of numbers: float32 if all of them are, else float64."""
        raise NotImplementedError

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        """Return the values of a column of any kind."""
        raise NotImplementedError

    def numbers(self, columns: list[int], rows: slice = EVERY_ROW) -> np.ndarray:
        """Return columns, of which there may be none, as numbers; the dtype is that of any rows."""
        floats = [column for column in columns if self.has_floats[column]]
        if columns and floats == columns:
            return self.floats(columns, rows)
        numbers = np.empty((len(range(len(self))[rows]), len(columns)))
        if floats:
            numbers[:, [self.has_floats[column] for column in columns]] = self.floats(floats, rows)
        for i, column in enumerate(columns):
            if not self.has_floats[column]:
                numbers[:, i] = to_floats(self.objects(column, rows), self.labels[column])
        return numbers

    def distinct(self, column: int) -> tuple[list[Any], np.ndarray]:
        """Return the values that occur in a column, and for each row which one it has."""
        places: dict[Any, int] = {}
        codes = [places.setdefault(value, len(places)) for value in self.objects(column)]
        return list(places), np.array(codes, dtype=np.intp)

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
    """A NumPy array: all columns are numbers, whatever they hold, but for codes of an encoder."""

    def __init__(self, X: np.ndarray, codes: Sequence[int] = ()) -> None:
        self.X, self.labels = X, range(X.shape[1])
        self.kinds = [DATE if X.dtype.kind in "mM" else NUMBER] * len(self.labels)
        self.has_floats = [X.dtype.kind in "biuf"] * len(self.labels)
        for column in codes:
            self.kinds[column] = CATEGORY

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        X = self.X[rows] if len(columns) == len(self.labels) else self.X[rows, columns]
        return X if X.dtype == np.float32 else X.astype(np.float64, copy=False)

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        return self.X[rows, column].tolist()


class PandasTable(Table):
    """A DataFrame of pandas, or of a library that follows it."""

    def __init__(self, X: Any) -> None:
        is_sparse = [type(dtype).__name__ == "SparseDtype" for dtype in X.dtypes]
        if any(is_sparse):  # one value for each row, as the numbers beside them
            X = X.copy(deep=False)
            for column in np.flatnonzero(is_sparse).tolist():
                X.isetitem(column, X.iloc[:, column].sparse.to_dense())
        self.X, self.labels, self._dtypes = X, list(X.columns), list(X.dtypes)
        self.kinds = [self._kind_of(dtype) for dtype in self._dtypes]
        self.has_floats = [dtype.kind in "biuf" for dtype in self._dtypes]

    @staticmethod
    def _kind_of(dtype: Any) -> str:
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

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        X = self.X.iloc[rows]
        X = X if len(columns) == len(self.labels) else X.iloc[:, columns]
        dtypes = [self._dtypes[column] for column in columns]
        dtype = np.float32 if {dtype.name for dtype in dtypes} in SINGLE else np.float64
        is_plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        return X.to_numpy(dtype) if is_plain else X.to_numpy(dtype, na_value=np.nan)

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        return self.X.iloc[rows, column].to_numpy(dtype=object).tolist()

    def distinct(self, column: int) -> tuple[list[Any], np.ndarray]:
        codes, found = self.X.iloc[:, column].factorize()  # many times as fast
        return found.tolist(), codes


class PolarsTable(Table):
    """A DataFrame of polars."""

    _KINDS: ClassVar = {
        "Null": NUMBER,
        "String": STRING,
        "Object": OBJECT,
        **dict.fromkeys(["Categorical", "Enum", "Boolean", "Binary"], CATEGORY),
    }

    def __init__(self, X: Any) -> None:
        self.X, self.labels = X, X.columns
        self.kinds = [self._kind_of(dtype) for dtype in X.dtypes]
        self.has_floats = [kind == NUMBER for kind in self.kinds]

    @classmethod
    def _kind_of(cls, dtype: Any) -> str:
        if dtype.is_temporal():
            return DATE
        return NUMBER if dtype.is_numeric() else cls._KINDS.get(dtype.base_type().__name__, OTHER)

    def floats(self, columns: list[int], rows: slice) -> np.ndarray:
        import polars

        X = self.X[rows].select([self.labels[column] for column in columns])
        is_single = all(dtype == polars.Float32 for dtype in X.dtypes)
        return X.cast(polars.Float32 if is_single else polars.Float64).to_numpy()

    def objects(self, column: int, rows: slice = EVERY_ROW) -> list[Any]:
        return self.X[rows].to_series(column).to_list()


def open_columns(X: Any, codes: Sequence[int] = ()) -> Table:
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
    for unfit, message in ((DATE, DATES), (OTHER, OTHERS)):
        if unfit in table.kinds:
            kinds = zip(table.labels, table.kinds, strict=True)
            raise ValueError(message.format([label for label, kind in kinds if kind == unfit]))
    return table


def refuse_infinite(table: Table, columns: list[int], is_infinite: np.ndarray) -> None:
    """Refuse those of the columns that hold infinity."""
    if is_infinite.any():
        found = np.flatnonzero(is_infinite).tolist()
        raise ValueError(INFINITE.format([table.labels[columns[i]] for i in found]))


def iterate_numbers(
    table: Table, columns: list[int], order: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Yield columns in float64, with their rows in the order given, which may leave out some.

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
        if not is_infinite.any():
            yield from x if order is None else x[:, order]
    refuse_infinite(table, columns, is_infinite)


def find_kind(table: Table, column: int) -> str:
    """Say whether a column is a number or a category, by its values if its dtype does not."""
    kind = table.kinds[column]
    if kind == OBJECT and are_numbers(table.objects(column)):
        return NUMBER
    return NUMBER if kind == NUMBER else CATEGORY


def name_categories(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that are categories by themselves."""
    table = open_columns(X)
    return [label for i, label in enumerate(table.labels) if find_kind(table, i) == CATEGORY]


def name_levels(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that have a dtype for levels alone."""
    return [
        name
        for name, dtype in zip(X.columns, X.dtypes, strict=True)
        if str(dtype).lower().startswith(("category", "categorical", "enum"))
    ]


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
