"""Warnings about columns that are probably not of the kind that they are read as."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ..utils import find_stack_level
from .categories import Category, LevelMatch
from .scaling import NumberScale

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
NUMBERS = (
    "Columns {} of X hold strings that read as numbers, but are taken for categories, which have "
    "no order. If they are numbers, remove signs (as in '1,234.5' or '12%') and convert them "
    "before fit and predict, for instance by pandas.to_numeric(column, errors='coerce'), which "
    "makes all else missing; if they identify rows, leave them out; " + OR_CATEGORIES
)
TIMES = (
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


def warn_of(message: str, labels: list[Any], examples: Sequence[Any] = ()) -> None:
    """Warn of columns, if there are any; the message has a place for their names."""
    if labels:
        text = message.format(list_few(labels), list_few(list(examples)))
        warnings.warn(text, UserWarning, stacklevel=find_stack_level())


def list_few(items: list[Any]) -> str:
    """Write down the items of a list, and only the first of a long one."""
    return repr(items) if len(items) <= 20 else f"{items[:20]!r} and {len(items) - 20} more"


def advise(column: NumberScale | Category, levels: Collection[Any]) -> str | None:
    """Return the warning about a column, or None.

    `levels` are those of a column that was not declared to be a category. If they read as numbers
    or times, rare ones are not mentioned.
    """
    if column.is_empty:
        return EMPTY
    if isinstance(column, NumberScale):
        return None
    texts = [str(level) for level in levels if level is not None]  # which stands for missing
    if len(set(texts)) < len(texts):
        return TWINS
    form = read_as(levels)
    if form == TIME:
        return TIMES
    if form == DECIMAL or (form == WHOLE and column.is_mostly_rare):
        return NUMBERS
    return CUT if column.is_cut else RARE if column.is_mostly_rare else None


def warn_of_unknown(
    labels: Sequence[Any], categories: dict[int, Category], blocks: Sequence[Sequence[LevelMatch]]
) -> None:
    """Warn of columns in which no row of all blocks has a level that `fit` saw.

    A few rows with a new level are usual, unless it is of another type, as 1 instead of "1" is; and
    so are many where most levels were rare in `fit`.
    """
    unknown, examples = [], []
    for (j, category), matches in zip(categories.items(), zip(*blocks, strict=True), strict=True):
        n_rows = sum(match.n_rows for match in matches)
        types = {name for match in matches for name in match.types or ()}
        is_surprise = n_rows >= MANY_ROWS and not category.is_mostly_rare
        is_known = n_rows == 0 or any(match.types is None for match in matches)
        if category.levels and not is_known and (is_surprise or types.isdisjoint(category.types)):
            unknown.append(labels[j])
            examples.append(category.levels[0])
    warn_of(UNKNOWN_LEVELS, unknown, examples)


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
