"""The levels of category columns, and the lookup tables that these columns become.

Levels are plain Python values, which compare by value wherever they come from.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from .._values import frozen
from ..utils import ROUNDING, cut_rows

UNKNOWN, MISSING, FIRST_LEVEL = 0, 1, 2
"""Rows of the lookup table of a category column; as codes, they are the codes."""

DATE_TYPES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)

LARGEST_EXACT = 2.0**53
"""Up to here, each whole number is a float64 of its own."""


class Levels(NamedTuple):
    """The distinct values of a column, in any order, and for each row which one it has."""

    values: list[Any]
    codes: np.ndarray  # (n_samples,), intp; -1 where missing


@frozen
class LevelStatistics:
    """What `fit` saw in a category column, beside its levels."""

    n_rows: int  # with a value, of weight above 0
    n_rare: int  # of these, with a rare level
    n_scarce: int  # and with one that would be rare without the row
    is_cut: bool  # whether levels are rare for no other reason than max_categories
    kinds: frozenset[str]  # of all levels, rare or not


class Encounter(NamedTuple):
    """What some rows have in a category column, compared with `fit`."""

    n_rows: int  # with a value
    n_known: int  # of these, with a level of `fit` that is not rare
    n_levels: int = 0  # if there are none of these, how many levels they have
    kinds: frozenset[str] = frozenset()  # and of what kinds


@frozen
class Category:
    """How a category column becomes flags or a code: by its level, the row of a lookup table."""

    rows: dict[Any, int]  # level -> row of the table; rare levels are not in it
    table: np.ndarray  # (2 + n_levels, n_outputs)
    suffixes: tuple[str, ...]  # for the names of the outputs
    is_code: bool
    statistics: LevelStatistics

    def encode_into(self, levels: Levels, out: np.ndarray) -> Encounter:
        """Write the outputs, (n_samples, n_outputs), and say what the levels were."""
        # A code of -1, which is a missing level, picks the last entry.
        rows = np.array([*(self.rows.get(level, UNKNOWN) for level in levels.values), MISSING])
        n_rows, n_known = 0, 0
        for block in cut_rows(*out.shape):
            picked = rows[levels.codes[block]]
            out[block] = self.table[picked]
            n_rows += int(np.count_nonzero(picked != MISSING))
            n_known += int(np.count_nonzero(picked > MISSING))
        if n_known:
            return Encounter(n_rows, n_known)
        used = [levels.values[i] for i in np.unique(levels.codes) if i >= 0]
        return Encounter(n_rows, n_known, len(used), find_kinds(used))


def is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, or one of pandas' own."""
    pandas = sys.modules.get("pandas")
    if value is None or (pandas is not None and (value is pandas.NA or value is pandas.NaT)):
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    # The type first: whether an array equals itself has no answer.
    return isinstance(value, Real | np.datetime64) and value != value


def time_types() -> tuple[type, ...]:
    """Return the types of times, with that of pandas."""
    pandas = sys.modules.get("pandas")
    return DATE_TYPES if pandas is None else (*DATE_TYPES, pandas.Period)


def are_numbers(values: list) -> bool:
    """Say whether all values are numbers, with True and False among others, or missing."""
    types, times = set(map(type, values)), time_types()
    booleans = types & {bool, np.bool_}
    numbers = {t for t in types if issubclass(t, Real | Decimal) and not issubclass(t, times)}
    numbers -= booleans
    others = types - booleans - numbers
    if others and any(type(value) in others and not is_missing(value) for value in values):
        return False
    if not booleans:
        return bool(numbers)
    return any(type(value) in numbers and not is_missing(value) for value in values)


def fill_missing(values: np.ndarray, label: Any) -> np.ndarray:
    """Return objects with None for missing values that `float` does not know; refuse times."""
    pandas = sys.modules.get("pandas")
    odd = time_types() if pandas is None else (*time_types(), type(pandas.NA))
    listed = values.tolist()
    types = {t for t in set(map(type, listed)) if issubclass(t, odd)}
    places = [i for i, value in enumerate(listed) if type(value) in types] if types else []
    if not all(is_missing(listed[i]) for i in places):
        raise ValueError(describe_dates([label]))
    if places:
        values = values.copy()
        values[places] = None
    return values


@contextmanager
def hashable(label: Any) -> Iterator[None]:
    """Say which column has values that have no hash, such as lists."""
    try:
        yield
    except TypeError as error:
        raise TypeError(
            f"Column {label!r} of X cannot be read as categories: an argument must be a string or "
            f"a number, but {error}. Turn these values into strings, or leave the column out."
        ) from error


def factorize_objects(values: list, label: Any) -> tuple[list, np.ndarray]:
    """Return the distinct values, and for each value which one it is."""
    places: dict[Any, int] = {}
    with hashable(label):
        codes = [places.setdefault(value, len(places)) for value in values]
    return list(places), np.array(codes, dtype=np.intp)


def merge_levels(found: list, codes: np.ndarray, label: Any) -> Levels:
    """Make plain values of those found, one of all that are equal, and none of what is missing."""
    if len(codes) < len(found):  # a few rows of a dtype that declares many categories
        used, codes = np.unique(codes, return_inverse=True)
        found = [found[code] if code >= 0 else None for code in used.tolist()]
    places: dict[Any, int] = {}
    with hashable(label):
        plain = [_simplify(value, label) for value in found]
        order = [-1 if v is None else places.setdefault(v, len(places)) for v in plain]
    # A code of -1 picks the last entry.
    return Levels(list(places), np.array([*order, -1], dtype=np.intp)[codes])


def _simplify(value: Any, label: Any) -> Any:
    """Return a level as a plain value, None if it is missing."""
    if type(value) is str:
        return value
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, time_types()):
        raise ValueError(describe_dates([label]))
    if isinstance(value, complex):
        raise ValueError(describe_others([label]))
    if isinstance(value, Decimal | Fraction):
        is_finite = isinstance(value, Fraction) or value.is_finite()
        value = int(value) if is_finite and value == int(value) else float(value)
    if isinstance(value, float):
        if np.isinf(value):
            raise ValueError(describe_infinity([label]))
        return int(value) if value.is_integer() and abs(value) < LARGEST_EXACT else value
    return value


def find_kinds(levels: Iterable[Any]) -> frozenset[str]:
    """Say of what kinds levels are: numbers, with booleans among them, or types of their own."""
    types = set(map(type, levels))
    return frozenset("number" if issubclass(t, Real) else t.__qualname__ for t in types)


def sort_levels(levels: Iterable[Any]) -> list[Any]:
    """Sort numbers by value, then strings, then what else there is by type and text.

    True and False stay so, unless there are other numbers, among which they are 1 and 0.
    """
    levels = list(levels)
    if any(isinstance(level, Real) and not isinstance(level, bool) for level in levels):
        levels = [int(level) if isinstance(level, bool) else level for level in levels]

    def key(level: Any) -> tuple:
        if isinstance(level, Real):
            return (0, level)
        if isinstance(level, str):
            return (1, level)
        return (2, type(level).__qualname__, str(level))

    return sorted(levels, key=key)


def fit_category(
    column: Levels,
    weights: np.ndarray | None,
    *,
    max_one_hot: int,
    min_frequency: float,
    max_categories: int,
) -> Category:
    """Choose what a category column becomes; `weights` are above 0, in ascending order."""
    # Missing levels have the code -1 and are counted first.
    n_codes = len(column.values) + 1
    counts = np.bincount(column.codes + 1, minlength=n_codes)
    totals = np.bincount(column.codes + 1, weights, minlength=n_codes)
    if min_frequency < 1:
        is_common = totals >= min_frequency * (1.0 - ROUNDING) * totals.sum()
    else:
        is_common = counts >= min_frequency
    places = {level: i for i, level in enumerate(column.values, 1) if counts[i]}
    levels = sort_levels(places)
    common = [level for level in levels if is_common[places[level]]]
    # Of levels that are as frequent, those stay that come first: sorting is stable.
    by_frequency = sorted(common, key=lambda level: -counts[places[level]])
    kept = set(by_frequency[:max_categories])
    rare = [places[level] for level in levels if level not in kept]
    fewest = min_frequency * (counts.sum() if min_frequency < 1 else 1)
    scarce = [places[level] for level in kept if counts[places[level]] <= fewest]
    statistics = LevelStatistics(
        n_rows=int(counts[1:].sum()),
        n_rare=int(counts[rare].sum()),
        n_scarce=int(counts[[*rare, *scarce]].sum()),
        is_cut=len(common) > max_categories,
        kinds=find_kinds(levels),
    )
    levels = [level for level in common if level in kept]
    weight_of_row = np.array([sum(totals[rare]), totals[0], *(totals[places[v]] for v in levels)])
    return make_category(levels, weight_of_row, statistics, max_one_hot=max_one_hot)


def make_category(
    levels: list, weight_of_row: np.ndarray, statistics: LevelStatistics, *, max_one_hot: int
) -> Category:
    """Lay out the lookup table for these levels, which are not rare.

    `weight_of_row` says how much of the data each row of the lookup table stands for. Over the data
    the mean of a flag is 0; and so is every flag in a row that stands for nothing.
    """
    n_levels = len(levels)
    has_rare, has_missing = (weight_of_row[:FIRST_LEVEL] > 0.0).tolist()
    rows = {level: row for row, level in enumerate(levels, FIRST_LEVEL)}
    is_constant = n_levels == 0 or (n_levels == 1 and not has_rare)
    is_pair = n_levels == 2 and not has_rare
    if n_levels > max_one_hot and not (is_constant or is_pair):
        codes = np.arange(float(FIRST_LEVEL + n_levels))[:, np.newaxis]
        return Category(rows, codes, ("",), is_code=True, statistics=statistics)
    one_hot = np.eye(FIRST_LEVEL + n_levels) - weight_of_row / weight_of_row.sum()
    one_hot[weight_of_row == 0.0] = 0.0
    if is_constant:
        flags, suffixes = [np.zeros((len(one_hot), 1))], [""]
    elif is_pair:
        first, second = weight_of_row[FIRST_LEVEL:] / weight_of_row[FIRST_LEVEL:].sum()
        flags = [np.array([[0.0], [0.0], [-2.0 * second], [2.0 * first]])]
        suffixes = [f"_{levels[1]}"]
    else:
        flags, suffixes = [one_hot[:, FIRST_LEVEL:]], [f"_{level}" for level in levels]
        if has_rare:
            flags.append(one_hot[:, [UNKNOWN]])
            suffixes.append("_rare")
    if has_missing:
        flags.append(one_hot[:, [MISSING]])
        suffixes.append("_missing")
    return Category(rows, np.hstack(flags), tuple(suffixes), is_code=False, statistics=statistics)


def describe_dates(labels: Sequence[Any]) -> str:
    """Say what to do with columns of times."""
    return (
        f"Columns {list(labels)!r} of X hold dates, times or durations, which are neither numbers "
        "nor categories. Take numbers from them, such as year, month, weekday, hour or seconds "
        "since an event; or make them strings if they are categories."
    )


def describe_others(labels: Sequence[Any]) -> str:
    """Say what to do with columns of what nobody can learn from as it is."""
    return (
        f"Columns {list(labels)!r} of X hold neither numbers nor categories (complex numbers, "
        "lists or structures, for instance). Take numbers from them, or leave them out."
    )


def describe_infinity(labels: Sequence[Any]) -> str:
    """Say what to do with columns with infinite values."""
    return (
        "Input X contains infinity or a value too large for its dtype, in columns "
        f"{list(labels)!r}. Make it missing (NaN) or a finite number."
    )
