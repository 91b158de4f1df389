"""Tables of all libraries, and their columns.

A column is read as numbers (float64, NaN where missing) or as levels, which are plain Python
values, so that an encoder fitted to a table of one library encodes those of another.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from itertools import count
from numbers import Integral, Real
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.stable.v2.dependencies import is_into_dataframe, is_pandas_dataframe
from scipy.sparse import issparse
from sklearn.utils import check_array

from ..utils import fill_masked, find_stack_level
from .encoded_array import find_codes

FLOAT32, FLOAT64, BOOLEAN, NUMBER, CATEGORY, STRING, OBJECT, TIME, OTHER = range(9)
"""Kinds of columns by dtype: numbers that libraries convert to floats; booleans, categories that
they convert too; numbers that are converted one by one, such as Decimals, which some libraries
round twice; categories, strings, and values that may be of any type, which are categories too
unless all are numbers; times, and what is neither. Numbers may still be read as categories, and
categories as numbers."""

KINDS_OF_ARRAYS = (
    dict.fromkeys("biuf", FLOAT64) | dict.fromkeys("mM", TIME) | dict.fromkeys("OUT", OBJECT)
)
"""Kinds of columns by the kind of an array's dtype; others hold numbers that are converted."""

KINDS = (
    {nw.Float32: FLOAT32, nw.Boolean: BOOLEAN, nw.String: STRING}
    | dict.fromkeys((nw.Float64, nw.Int8, nw.Int16, nw.Int32, nw.Int64), FLOAT64)
    | dict.fromkeys((nw.UInt8, nw.UInt16, nw.UInt32, nw.UInt64), FLOAT64)
    | dict.fromkeys((nw.Categorical, nw.Enum), CATEGORY)
)
"""Kinds of columns of DataFrames by dtype. Others are numbers, times, nested, or objects."""

TIME_TYPES = {"date", "time", "timedelta", "datetime64", "timedelta64"} | {
    *("Period", "BaseOffset", "MonthDayNano")
}
"""Names of types; some are of pandas and pyarrow, which are not imported for them."""

PANDAS_MISSING = ("NAType", "NaTType")
"""Names of the types of pandas' missing values; pandas is not imported for them."""

TIMES = (
    "Columns {} of X hold dates, times or durations, which are neither numbers nor categories. "
    "Take numbers from them, such as year, month, weekday, hour or seconds since an event; or make "
    "them strings if they are categories."
)
OTHERS = (
    "Columns {} of X hold neither numbers nor categories (but complex numbers, lists or "
    "structures, for instance). Take numbers from them, or leave them out."
)
SPARSE = "pandas.DataFrame with sparse columns found. They are converted to dense ones: {}."
INFINITE = (
    "Input X contains infinity or a value too large for its dtype, in columns {}. Make it missing "
    "(NaN) or a finite number."
)

LARGEST_EXACT = 2.0**53
"""Up to here, float64 represents each whole number exactly."""


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
    warn_of(SPARSE, list(dtypes))
    return X.astype(dtypes)


class Levels(NamedTuple):
    """The distinct values of a column, in any order, and for each row which one it has."""

    values: list[Any]
    codes: np.ndarray  # (n_samples,), intp; -1 where missing


class Table:
    """A DataFrame or a two-dimensional array as the encoder reads it.

    Columns go by position; labels are for messages.

    Raises
    ------
    ValueError
        If a column holds times, or what is neither a number nor a category; or if X is empty.
    """

    def __init__(self, X: Any) -> None:
        if isinstance(X, np.ndarray):
            kind = FLOAT32 if X.dtype == np.float32 else KINDS_OF_ARRAYS.get(X.dtype.kind, NUMBER)
            self.X: Any = np.asarray(X)
            self.labels: Sequence[Any] = range(X.shape[1])
            self.kinds = np.full(len(self.labels), kind)
        else:
            # The checks of an array, and their messages, on one of this shape that costs nothing.
            check_array(np.broadcast_to(0.0, X.shape), ensure_all_finite=False)
            self.X = nw.from_native(X)
            self.labels = self.X.columns
            self.kinds = np.array([*map(find_kind, self.X.schema.values())])
        for unfit, message in ((TIME, TIMES), (OTHER, OTHERS)):
            places = np.flatnonzero(self.kinds == unfit).tolist()
            if places:
                raise ValueError(message.format([self.labels[j] for j in places]))
        self.has_floats, self.codes = self.kinds <= BOOLEAN, find_codes(X)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice) -> Table:
        """Return a block of rows as a table."""
        block = object.__new__(Table)  # `copy` would take longer than scaling a row
        vars(block).update(vars(self), X=self.X[rows])
        return block

    def numbers(self, columns: list[int]) -> np.ndarray:
        """Return columns, at least one, as numbers.

        Raises
        ------
        ValueError
            If there is infinity among them.
        """
        if self.has_floats[columns].all():
            part = self.X if len(columns) == len(self.labels) else self.X[:, columns]
            if not isinstance(part, np.ndarray):
                if (self.kinds[columns] == BOOLEAN).any():  # which pandas would make objects
                    part = part.select(nw.all().cast(nw.Float64))
                part = part.to_numpy()
            x = part.astype(np.float64, copy=False)
        else:
            floats = [j for j in columns if self.has_floats[j]]
            found = dict(zip(floats, self.numbers(floats).T, strict=True)) if floats else {}
            for j in set(columns) - set(floats):
                found[j] = to_floats(self.objects(j), self.labels[j])
            x = np.column_stack([found[j] for j in columns])
        is_infinite = np.isinf(x).any(axis=0)
        if is_infinite.any():
            places = np.flatnonzero(is_infinite).tolist()
            raise ValueError(INFINITE.format([self.labels[columns[place]] for place in places]))
        return x

    def objects(self, column: int) -> list[Any]:
        """Return the values of a column of any kind."""
        if isinstance(self.X, np.ndarray):
            return self.X[:, column].tolist()
        values = self.X.get_column(self.labels[column])
        if values.dtype == nw.Categorical and values.implementation.is_pyarrow():
            dictionary = values.to_native()
            return dictionary.cast(dictionary.type.value_type).to_pylist()  # else 8 times as slow
        return values.to_list()

    def levels(self, column: int) -> Levels:
        """Return a column as levels, plain values of which each occurs once."""
        label, places = self.labels[column], dict[Any, int]()
        order = []
        try:
            found, codes = self._factorize(column)
            for value in found:
                level = simplify(value, label)
                order.append(-1 if level is None else places.setdefault(level, len(places)))
        except TypeError as error:  # a value without a hash, such as a list
            raise TypeError(
                f"Column {label!r} of X cannot be read as categories: an argument must be a string "
                f"or a number, but {error}. Turn these values into strings, or leave the column "
                "out."
            ) from error
        # A code of -1, which is a missing value, picks the last entry.
        return Levels(list(places), np.array([*order, -1], dtype=np.intp)[codes])

    def _factorize(self, column: int) -> tuple[list[Any], np.ndarray]:
        """Return the values that occur in a column, and for each row which one it has."""
        if not isinstance(self.X, np.ndarray):
            try:
                codes, found = self.X.get_column(self.labels[column]).to_native().factorize()
                return found.tolist(), codes  # ten times as fast, where there is such a method
            except (AttributeError, NotImplementedError, OverflowError):
                pass  # of pandas 2: maps, 10**400
        values, places = self.objects(column), defaultdict[Any, int](count().__next__)
        codes = np.fromiter(map(places.__getitem__, values), np.intp, len(values))
        return list(places), codes


def open_columns(X: Any, estimator: Any = None) -> Table:
    """Check a table as scikit-learn does, and return its columns; `estimator` is for messages."""
    X = make_dense(take_table(X))
    if is_frame(X):
        return Table(X)
    # Of a list with one string NumPy would make strings.
    dtype = None if hasattr(X, "dtype") else object
    checked = check_array(
        X, dtype=dtype, ensure_all_finite=False, estimator=estimator, input_name="X"
    )
    return Table(X if isinstance(X, np.ndarray) else checked)  # with marks, if X has some


def find_kind(dtype: Any) -> int:
    """Return what a column of a DataFrame is by its dtype."""
    if dtype.is_temporal():
        return TIME
    if dtype.is_nested():
        return OTHER
    return KINDS.get(dtype.base_type(), NUMBER if dtype.is_numeric() else OBJECT)


def is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, or one of pandas' own."""
    if value is None or type(value).__name__ in PANDAS_MISSING:
        return True
    # The type first: whether an array equals itself has no answer.
    return isinstance(value, Real | Decimal | np.datetime64) and value != value


def is_time(value_type: type) -> bool:
    """Say whether values of a type are dates, times, durations, or periods."""
    return not TIME_TYPES.isdisjoint(base.__name__ for base in value_type.__mro__)


def read_as_numbers(values: list[Any]) -> bool:
    """Say whether the strings in a column of an array are numbers, as they are for scikit-learn."""
    try:
        np.array([value for value in values if isinstance(value, str)], np.float64)
    except ValueError:
        return False
    return True


def hold_numbers(values: list[Any]) -> bool:
    """Say whether all values are numbers, with True and False among others, or missing."""
    # By types first: to ask each value whether it is missing takes ten times as long.
    types = set(map(type, values))
    others = {t for t in types if is_time(t) or not issubclass(t, Real | Decimal)}
    if others and any(type(value) in others and not is_missing(value) for value in values):
        return False
    return any(not isinstance(value, bool | np.bool_) and not is_missing(value) for value in values)


def to_floats(values: list[Any], label: Any) -> np.ndarray:
    """Convert a column to float64; what is missing becomes NaN."""
    # `float` knows none of these.
    if any(is_time(t) or t.__name__ in PANDAS_MISSING for t in set(map(type, values))):
        values = [None if is_missing(value) else value for value in values]
        if any(map(is_time, set(map(type, values)))):
            raise ValueError(TIMES.format([label]))
    try:
        return np.fromiter(values, np.float64, len(values))
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Column {label!r} of X is read as numbers, but {str(error).rstrip('.')}. If it holds "
            "categories, name it in categorical_features."
        ) from error


def simplify(value: Any, label: Any) -> Any:
    """Return a level as a plain value, None if it is missing."""
    if isinstance(value, str):  # also of NumPy, or a member of an enumeration
        return str.__str__(value)
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        value = value.item()
    if is_missing(value):
        return None
    if is_time(type(value)):
        raise ValueError(TIMES.format([label]))
    if isinstance(value, complex):
        raise ValueError(OTHERS.format([label]))
    if isinstance(value, Decimal | Fraction):
        is_finite = isinstance(value, Fraction) or value.is_finite()
        value = int(value) if is_finite and value == int(value) else float(value)
    if isinstance(value, int):
        return value if isinstance(value, bool) else int.__int__(value)
    if not isinstance(value, float):
        return value
    if np.isinf(value):
        raise ValueError(INFINITE.format([label]))
    is_whole = value.is_integer() and abs(value) < LARGEST_EXACT
    return int(value) if is_whole else float.__float__(value)


def warn_of(message: str, labels: list[Any], examples: Sequence[Any] = ()) -> None:
    """Warn of columns, if there are any; the message has a place for their names."""
    if labels:
        text = message.format(list_few(labels), list_few(list(examples)))
        warnings.warn(text, UserWarning, stacklevel=find_stack_level())


def list_few(items: list[Any]) -> str:
    """Write down the items of a list, and only the first of a long one."""
    return repr(items) if len(items) <= 20 else f"{items[:20]!r} and {len(items) - 20} more"


def name_categories(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that are categories by themselves.

    Raises
    ------
    ValueError
        If a column holds times, or what is neither a number nor a category.
    """
    table = Table(X)
    places = np.flatnonzero(find_categories(table)).tolist()
    for j in places:
        table.levels(j)  # refuses times among objects
    return [table.labels[j] for j in places]


def name_levels(X: Any) -> list[Any]:
    """Return the names of the columns of a DataFrame that have a dtype for levels alone."""
    schema = nw.from_native(X).schema
    return [name for name, dtype in schema.items() if dtype in (nw.Categorical, nw.Enum)]


def find_categories(table: Table, wanted: Any = "from_dtype") -> np.ndarray:
    """Say of each column whether it is a category, by `categorical_features` of the encoder.

    "from_dtype" decides by the dtype, or else by the values.

    Raises
    ------
    ValueError
        If a column is wanted that X does not have, or if types are mixed.
    """
    if wanted is None:
        return np.zeros(len(table.labels), dtype=bool)
    if not isinstance(wanted, str):
        return _find_named(np.asarray(wanted, dtype=object).ravel().tolist(), table.labels)
    is_category = np.isin(table.kinds, (BOOLEAN, CATEGORY, STRING))
    are_numbers = read_as_numbers if isinstance(table.X, np.ndarray) else hold_numbers
    for j in np.flatnonzero(table.kinds == OBJECT).tolist():
        is_category[j] = not are_numbers(table.objects(j))
    is_category[table.codes] = True
    return is_category


def _find_named(wanted: list[Any], labels: Sequence[Any]) -> np.ndarray:
    """Say of each column whether it is wanted: by a boolean mask, indices or names."""
    n_features = len(labels)
    if wanted and all(isinstance(item, bool | np.bool_) for item in wanted):
        if len(wanted) != n_features:
            raise ValueError(
                "categorical_features as a boolean mask must have one entry for each of the "
                f"{n_features} features of X, got {len(wanted)}."
            )
        return np.array(wanted, dtype=bool)
    known: Sequence[Any] = range(n_features)
    if not all(isinstance(item, Integral) and not isinstance(item, bool) for item in wanted):
        known = labels
        if not all(isinstance(item, str) for item in wanted):
            kinds = sorted({type(item).__name__ for item in wanted})
            raise ValueError(
                "categorical_features must be all names, all indices or all booleans, got "
                f"{', '.join(kinds)}."
            )
        if not any(isinstance(label, str) for label in labels):
            raise ValueError(
                f"categorical_features={wanted!r} are names, but X has no feature names. Pass a "
                "DataFrame with names that are strings, or indices or a boolean mask."
            )
    chosen = set(wanted)
    unknown = sorted(chosen - set(known))
    if unknown:
        raise ValueError(
            f"categorical_features has {unknown!r}, which X does not have; its "
            f"{n_features} features are {list_few(list(known))}."
        )
    return np.array([label in chosen for label in known])
