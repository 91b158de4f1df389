"""The levels of category columns, the lookup tables that these columns become, and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..utils import ROUNDING, check_fields
from .columns import Levels
from .encoded_array import FLAG

LARGEST_CODE = 1 << 24
"""Up to here, codes are whole numbers in float32."""

ROWS_TO_EMBED = 8
"""Rows that a level needs for an embedding to be learnt: as many as that has units."""

UNKNOWN, MISSING, FIRST_LEVEL = 0, 1, 2
"""Rows of the lookup table of a category column; as codes, they are the codes."""

WHOLE, DECIMAL, TIME, MARKER, TEXT = "whole", "decimal", "time", "marker", "text"
"""Forms of levels: whole numbers, other numbers, dates and times, "NA" and its like, all else."""

MARKERS = frozenset(
    {"", "?", "-", "--", ".", "*", "#", "na", "n/a", "#n/a", "n.a.", "<na>", "nan", "nd"}
    | {"nil", "none", "null", "missing", "unknown", "not available"}
)
"""Common markers of a missing number, in lower case."""

SIGNS = str.maketrans("", "", ",$€£¥%' ")
"""What numbers are written with, as in "1,234.5" and "12%", is taken away."""

CODE = re.compile(r"[+-]?0\d.*")
WHOLE_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)")
DATE = re.compile(
    r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4})([T ]\d\d?:.*)?|\d\d?:\d\d(:.*)?"
)

MANY_ROWS = 10
"""So many rows without any known level are a surprise, in which one level may be new."""

OR_CATEGORIES = "if they are categories, name them in categorical_features or give them that dtype."

EMPTY = (
    "Columns {} of X have no value in any row (of sample_weight above 0): all are missing. They "
    "are encoded as 0, whatever comes later. Leave them out, unless they have values in other "
    "parts of the data."
)
CUT = (
    "Columns {} of X have more levels than max_categories. The most frequent ones are kept, all "
    "others count as rare. Leave these columns out if they identify rows; else raise "
    "max_categories."
)
RARE = (
    "In columns {} of X most rows have a rare level, one of fewer rows than min_frequency (2 for "
    "'auto'), so that they say little. Leave these columns out if they identify rows; else lower "
    "min_frequency."
)
NUMBER_STRINGS = (
    "Columns {} of X hold strings that read as numbers, but are taken for categories, which have "
    "no order. If they are numbers, remove signs (as in '1,234.5' or '12%') and convert them "
    "before fit and predict, for instance by pandas.to_numeric(column, errors='coerce'), which "
    "makes all else missing; if they identify rows, leave them out; " + OR_CATEGORIES
)
TIME_STRINGS = (
    "Columns {} of X hold strings that read as dates or times, but are taken for categories, of "
    "which later ones will be unknown. Take numbers from them before fit and predict, such as "
    "year, month, weekday, hour or days since an event, for instance by "
    "pandas.to_datetime(column); " + OR_CATEGORIES
)
TWINS = (
    "Columns {} of X have numbers or booleans beside strings that read the same, as 1 and '1' do, "
    "which are taken for different levels. Make all of them strings before fit and predict, for "
    "instance by column.astype(str), or all numbers."
)
PREMATURE = (EMPTY, RARE)
"""Warnings that parts of a table do not give, since later parts may have more values."""

UNKNOWN_LEVELS = (
    "In columns {} of X no level is among those of fit, such as {}: all rows count as unknown "
    "there. Check that values are written as in fit: 1 is neither '1' nor '01', nor is True 'True'."
)
CONSTANT = (
    "Columns {} of X do not tell the rows of this first part apart. Scales and levels are learnt "
    "from it alone, so that these columns are encoded as 0, whatever comes later. Begin with more "
    "rows, of all kinds, or with encoder=FrozenEstimator(encoder), where the encoder is a "
    "TabularEncoder that has learnt from all parts by its own partial_fit."
)

LevelCounts: TypeAlias = dict[Any, tuple[int, float]]
"""How many rows each level of a column has, and their weight; None is missing."""


class LevelMatch(NamedTuple):
    """How the levels of some rows in a category column compare with those of `fit`."""

    n_rows: int  # with a value
    n_known: int  # of these, with a level of `fit` that is not rare
    types: frozenset[str]  # of their levels, if none is known


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

    def pack(self) -> dict[str, Any]:
        """Return plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> Category:
        """Restore a category from plain data, and check it."""
        category = cls(**{field.name: packed[field.name] for field in fields(cls)})
        check_fields(category)
        shape = (FIRST_LEVEL + len(category.levels), len(category.outputs))
        if category.table.shape != shape:
            raise ValueError(f"a table of shape {category.table.shape} and not {shape}")
        return category

    def encode_into(self, levels: Levels, out: np.ndarray) -> LevelMatch:
        """Write the outputs, (n_samples, n_outputs), and say what the levels were."""
        # A code of -1, which is a missing level, picks the last entry.
        rows = np.array([*(self._rows.get(level, UNKNOWN) for level in levels.values), MISSING])
        picked = rows[levels.codes]
        for k, values in enumerate(self.table.T):
            out[:, k] = values[picked]
        n_rows, n_known = int((picked != MISSING).sum()), int((picked > MISSING).sum())
        return LevelMatch(n_rows, n_known, find_types(() if n_known else levels.values))


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


def count_levels(before: Any, rows: Levels, weights: np.ndarray | None) -> LevelCounts:
    """Count more rows of a column; their weights are above 0, and 1 if None."""
    counts, levels = dict(before), [None, *rows.values]
    n_rows = np.bincount(rows.codes + 1, minlength=len(levels)).tolist()
    totals = np.bincount(rows.codes + 1, weights, minlength=len(levels)).tolist()
    for level, n, total in zip(levels, n_rows, totals, strict=True):
        if n:
            n_before, total_before = counts.get(level, (0, 0.0))
            counts[level] = (n_before + n, total_before + total)
    return counts


def fit_category(
    level_counts: LevelCounts,
    max_one_hot: int,
    min_frequency: float | Literal["auto"],
    max_categories: int,
) -> Category:
    """Choose the flags or codes of a category column."""
    levels = sort_levels(level for level in level_counts if level is not None)
    counts, weights = np.array([level_counts[level] for level in levels]).reshape(-1, 2).T
    weight_of_missing = level_counts.get(None, (0, 0.0))[1]
    smallest = 2 if min_frequency == "auto" else min_frequency
    if smallest < 1:
        total = weights.sum() + weight_of_missing
        is_common = weights >= smallest * (1.0 - ROUNDING) * total
    else:
        is_common = counts >= smallest
    n_common = np.count_nonzero(is_common)
    keeps_all = min_frequency == "auto" and n_common > max_one_hot and have_few_rows(counts)
    # Of levels that are as frequent, those stay that come first.
    by_frequency = np.argsort(-counts, kind="stable")
    is_kept = np.zeros(len(levels), dtype=bool)
    is_kept[by_frequency[(is_common | keeps_all)[by_frequency]][:max_categories]] = True
    shown = [levels[place] for place in np.flatnonzero(is_kept).tolist()]
    weight_of_row = np.array([weights[~is_kept].sum(), weight_of_missing, *weights[is_kept]])
    table, outputs = make_lookup(shown, weight_of_row, max_one_hot=max_one_hot)
    return Category(
        levels=shown,
        table=table,
        outputs=outputs,
        n_rows=int(counts.sum()),
        n_rare=int(counts[~(is_kept & is_common)].sum()),
        is_cut=bool(n_common > max_categories),
        types=sorted(find_types(levels)),
    )


def make_lookup(
    levels: list[Any], weight_of_row: np.ndarray, *, max_one_hot: int
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Make the lookup table for these levels, which are not rare, and describe its columns.

    `weight_of_row` is the weight of the data in each row of the lookup table. The mean of a flag
    over the data is 0, and so is every flag in a row without data.
    """
    n_rows, has_rare = len(weight_of_row), weight_of_row[UNKNOWN] > 0.0
    has_missing = weight_of_row[MISSING] > 0.0 and np.count_nonzero(weight_of_row) > 1
    is_constant = len(levels) <= (0 if has_rare else 1)
    is_pair = len(levels) == 2 and not has_rare
    if len(levels) > max_one_hot and not (is_constant or is_pair):
        return np.arange(float(n_rows))[:, np.newaxis], [(n_rows, "")]
    one_hot = np.eye(n_rows) - weight_of_row / weight_of_row.sum()
    one_hot[weight_of_row == 0.0] = 0.0
    if is_constant:
        flags, suffixes = np.zeros((n_rows, 1)), [""]
    elif is_pair:
        first, second = weight_of_row[FIRST_LEVEL:] / weight_of_row[FIRST_LEVEL:].sum()
        flags = np.array([[0.0], [0.0], [-2.0 * second], [2.0 * first]])
        suffixes = [f"_{levels[1]}"]
    else:
        flags, suffixes = one_hot[:, FIRST_LEVEL:], [f"_{level}" for level in levels]
        if has_rare:
            flags, suffixes = np.c_[flags, one_hot[:, UNKNOWN]], [*suffixes, "_rare"]
    if has_missing:
        flags, suffixes = np.c_[flags, one_hot[:, MISSING]], [*suffixes, "_missing"]
    return flags, [(FLAG, suffix) for suffix in suffixes]


def advise(column: Category, summary: Iterable[Any]) -> str | None:
    """Return the warning about a column that has values, or None.

    `summary` has the counts of levels, as items, of a column that was not declared to be a
    category. If they read as numbers or times, rare ones are not mentioned.
    """
    levels = [level for level, _ in summary if level is not None]  # which stands for missing
    texts = list(map(str, levels))
    if len(set(texts)) < len(texts):
        return TWINS
    form = read_as(levels)
    if form == TIME:
        return TIME_STRINGS
    if form == DECIMAL or (form == WHOLE and column.is_mostly_rare):
        return NUMBER_STRINGS
    return CUT if column.is_cut else RARE if column.is_mostly_rare else None


def read_as(levels: Iterable[Any]) -> str | None:
    """Return the form of the levels of a column, or None if one of them is a code or other text.

    Numbers among the levels count too; markers of missing values do not.
    """
    forms = set()
    for level in levels:
        forms.add(_read_level(level))
        if TEXT in forms:  # of many levels, the first one mostly says so
            return None
    forms.discard(MARKER)
    if TIME in forms:
        return TIME if forms == {TIME} else None
    return DECIMAL if DECIMAL in forms else WHOLE if forms else None


def _read_level(level: Any) -> str:
    """Return the form of one level. A number with a leading zero is a code, and so text."""
    text = level.decode("latin-1") if isinstance(level, bytes) else str(level)
    text = text.strip()
    if text.lower() in MARKERS:
        return MARKER
    if DATE.fullmatch(text):
        return TIME
    if WHOLE_NUMBER.fullmatch(text):
        return WHOLE
    try:
        float(text.translate(SIGNS))
    except ValueError:
        return TEXT
    return TEXT if CODE.match(text) else DECIMAL
