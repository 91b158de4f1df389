"""The levels of category columns, and the lookup tables that these columns become.

Levels are plain Python values, which compare by value wherever they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..utils import ROUNDING
from .summaries import LevelSummary

CONTINUOUS, UNMARKED, FLAG = -2, -1, 0
"""Marks of numbers to embed, of columns of other origin, and of flags. The mark of codes is how
many there are."""

LARGEST_CODE = 1 << 24
"""Up to here, codes are whole numbers in float32."""

ROWS_TO_EMBED = 8
"""Rows that a level needs for an embedding to be learnt: as many as that has units."""

UNKNOWN, MISSING, FIRST_LEVEL = 0, 1, 2
"""Rows of the lookup table of a category column; as codes, they are the codes."""

TIME_TYPES = {"date", "time", "timedelta", "datetime64", "timedelta64"} | {
    *("Period", "BaseOffset", "MonthDayNano")
}
"""Names of types; some are of pandas and pyarrow, which are not imported for them."""

PANDAS_MISSING = ("NAType", "NaTType")
"""Names of the types of pandas' missing values; pandas is not imported for them."""

DATES = (
    "Columns {} of X hold dates, times or durations, which are neither numbers nor categories. "
    "Take numbers from them, such as year, month, weekday, hour or seconds since an event; or make "
    "them strings if they are categories."
)
OTHERS = (
    "Columns {} of X hold neither numbers nor categories (but complex numbers, lists or "
    "structures, for instance). Take numbers from them, or leave them out."
)
INFINITE = (
    "Input X contains infinity or a value too large for its dtype, in columns {}. Make it missing "
    "(NaN) or a finite number."
)

LARGEST_EXACT = 2.0**53
"""Up to here, float64 represents each whole number exactly."""


class Levels(NamedTuple):
    """The distinct values of a column, in any order, and for each row which one it has."""

    values: list[Any]
    codes: np.ndarray  # (n_samples,), intp; -1 where missing


class LevelMatch(NamedTuple):
    """How the levels of some rows in a category column compare with those of `fit`."""

    n_rows: int  # with a value
    types: frozenset[str] | None  # of their levels; None if `fit` knows one, as not rare


@dataclass(frozen=True)
class Category:
    """How a category column becomes flags or a code: by its level, the row of a lookup table."""

    levels: list[Any]  # those that are not rare, in the order of their rows of the table
    table: np.ndarray  # (2 + n_levels, n_outputs)
    outputs: list[tuple[int, str]]  # the mark of each, and the end of its name
    # What `fit` saw in the column:
    n_rows: int  # with a value, of weight above 0
    n_rare: int  # of these, with a level of fewer rows than min_frequency, or one that was cut
    is_cut: bool  # whether levels are rare for no other reason than max_categories
    types: list[str]  # of all levels, rare or not

    @cached_property
    def _rows(self) -> dict[Any, int]:
        """The row of the table of each level."""
        return {level: row for row, level in enumerate(self.levels, FIRST_LEVEL)}

    @property
    def is_empty(self) -> bool:
        """Whether the column had no value in `fit`."""
        return self.n_rows == 0

    @property
    def is_mostly_rare(self) -> bool:
        """Whether most rows with a value had a rare level in `fit`."""
        return self.n_rare > 0.5 * self.n_rows

    @property
    def is_constant(self) -> bool:
        """Whether the column had a single value in `fit`."""
        return bool(np.ptp(self.table[:, 0]) == 0.0)

    @property
    def boolean_slopes(self) -> np.ndarray:
        """How much each output of True is above that of False; NaN for levels of other kinds."""
        is_boolean = bool(self.levels) and all(isinstance(level, bool) for level in self.levels)
        if not is_boolean or self.outputs[0][0] > FLAG:
            return np.full(len(self.outputs), np.nan)
        low, high = (self.table[self._rows.get(level, UNKNOWN)] for level in (False, True))
        return high - low

    def encode_into(self, levels: Levels, out: np.ndarray) -> LevelMatch:
        """Write the outputs, (n_samples, n_outputs), and say what the levels were."""
        # A code of -1, which is a missing level, picks the last entry.
        rows = np.array([*(self._rows.get(level, UNKNOWN) for level in levels.values), MISSING])
        picked = rows[levels.codes]
        for k, values in enumerate(self.table.T):
            out[:, k] = values[picked]
        n_rows = int(np.count_nonzero(picked != MISSING))
        return LevelMatch(n_rows, None if (picked > MISSING).any() else find_types(levels.values))


def is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, or one of pandas' own."""
    if value is None or type(value).__name__ in PANDAS_MISSING:
        return True
    # The type first: whether an array equals itself has no answer.
    return isinstance(value, Real | Decimal | np.datetime64) and value != value


def is_time(value_type: type) -> bool:
    """Say whether values of a type are dates, times, durations, or periods."""
    return not TIME_TYPES.isdisjoint(base.__name__ for base in value_type.__mro__)


def are_numbers(values: list[Any]) -> bool:
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
            raise ValueError(DATES.format([label]))
    try:
        return np.fromiter(values, np.float64, len(values))
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Column {label!r} of X is read as numbers, but {str(error).rstrip('.')}. If it holds "
            "categories, name it in categorical_features."
        ) from error


def to_levels(found: list[Any], codes: np.ndarray, label: Any) -> Levels:
    """Convert the values found in a column to plain ones, each of which occurs once."""
    places: dict[Any, int] = {}
    plain = [simplify(value, label) for value in found]
    order = [-1 if level is None else places.setdefault(level, len(places)) for level in plain]
    # A code of -1 picks the last entry.
    return Levels(list(places), np.array([*order, -1], dtype=np.intp)[codes])


def simplify(value: Any, label: Any) -> Any:
    """Return a level as a plain value, None if it is missing."""
    if isinstance(value, str):  # also of NumPy, or a member of an enumeration
        return str.__str__(value)
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        value = value.item()
    if is_missing(value):
        return None
    if is_time(type(value)):
        raise ValueError(DATES.format([label]))
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


def find_types(levels: Iterable[Any]) -> frozenset[str]:
    """Name the types of levels; all numbers, with booleans among them, are of one."""
    types = set(map(type, levels))
    return frozenset("number" if issubclass(t, Real) else t.__qualname__ for t in types)


def sort_levels(levels: Iterable[Any]) -> list[Any]:
    """Sort numbers by value, then strings, then what else there is by type and text.

    True and False stay so, unless there are other numbers, among which they are 1 and 0.
    """
    levels = list(levels)
    if any(isinstance(level, Real) and not isinstance(level, bool) for level in levels):
        levels = [int(level) if isinstance(level, bool) else level for level in levels]

    def key(level: Any) -> tuple[Any, ...]:
        if isinstance(level, Real):
            return (0, level)
        if isinstance(level, str):
            return (1, level)
        return (2, type(level).__qualname__, str(level))

    return sorted(levels, key=key)


def have_few_rows(counts: ArrayLike) -> bool:
    """Say whether most rows have a level of fewer rows than an embedding of it needs."""
    counts = np.asarray(counts)
    return bool(counts[counts < ROWS_TO_EMBED].sum() > 0.5 * counts.sum())


def fit_category(
    summary: LevelSummary,
    max_one_hot: int,
    min_frequency: float | Literal["auto"],
    max_categories: int,
) -> Category:
    """Choose the flags or codes of a category column."""
    counts = {level: count for level, (count, _) in summary.items() if level is not None}
    weights = {level: weight for level, (_, weight) in summary.items()}
    may_keep_all = min_frequency == "auto"
    min_frequency = 2 if min_frequency == "auto" else min_frequency
    if min_frequency < 1:
        smallest = min_frequency * (1.0 - ROUNDING) * sum(weights.values())
        is_common = {level: weights[level] >= smallest for level in counts}
    else:
        is_common = {level: count >= min_frequency for level, count in counts.items()}
    levels = sort_levels(counts)
    common = [level for level in levels if is_common[level]]
    keeps_all = may_keep_all and len(common) > max_one_hot and have_few_rows([*counts.values()])
    # Of levels that are as frequent, those stay that come first: sorting is stable.
    by_frequency = sorted(levels if keeps_all else common, key=lambda level: -counts[level])
    kept = set(by_frequency[:max_categories])
    rare = [level for level in levels if level not in kept]
    shown = [level for level in levels if level in kept]
    weight_of_rare = sum(weights[level] for level in rare)
    weight_of_row = [weight_of_rare, weights.get(None, 0.0), *(weights[level] for level in shown)]
    table, outputs = make_lookup(shown, np.array(weight_of_row), max_one_hot=max_one_hot)
    return Category(
        levels=shown,
        table=table,
        outputs=outputs,
        n_rows=sum(counts.values()),
        n_rare=sum(counts[v] for v in levels if v not in kept or not is_common[v]),
        is_cut=len(common) > max_categories,
        types=sorted(find_types(levels)),
    )


def make_lookup(
    levels: list[Any], weight_of_row: np.ndarray, *, max_one_hot: int
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Make the lookup table for these levels, which are not rare, and describe its columns.

    `weight_of_row` is the weight of the data in each row of the lookup table. The mean of a flag
    over the data is 0, and so is every flag in a row without data.
    """
    has_rare = weight_of_row[UNKNOWN] > 0.0
    has_missing = weight_of_row[MISSING] > 0.0 and np.count_nonzero(weight_of_row) > 1
    is_constant = len(levels) <= (0 if has_rare else 1)
    is_pair = len(levels) == 2 and not has_rare
    n_rows = len(weight_of_row)
    if len(levels) > max_one_hot and not (is_constant or is_pair):
        return np.arange(float(n_rows))[:, np.newaxis], [(n_rows, "")]
    one_hot = np.eye(n_rows) - weight_of_row / weight_of_row.sum()
    one_hot[weight_of_row == 0.0] = 0.0
    if is_constant:
        flags, suffixes = [np.zeros((n_rows, 1))], [""]
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
    return np.hstack(flags), [(FLAG, suffix) for suffix in suffixes]
