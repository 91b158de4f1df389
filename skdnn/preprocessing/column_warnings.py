"""Warnings about columns that are probably not of the kind that they are read as."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from ..utils import find_stack_level
from .categories import Category, LevelMatch
from .scaling import NumberScale

WHOLE, DECIMAL, FORMATTED, TIME = "whole", "decimal", "formatted", "time"
"""Forms of strings: whole numbers, decimal numbers, numbers with signs (1,234.5, 12%), times."""

MARKERS = frozenset(
    {"", "?", "-", "--", ".", "*", "#", "na", "n/a", "#n/a", "n.a.", "<na>", "nan", "nd"}
    | {"nil", "none", "null", "missing", "unknown", "not available"}
)
"""Common markers of a missing number, in lower case."""

_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:1[5-9]|2[01])\d\d"
_HOUR = r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?"
_DATE = (
    rf"{_YEAR}-{_MONTH}(?:-{_DAY})?|{_YEAR}([/.]){_MONTH}\1{_DAY}"
    rf"|{_DAY}([/.-]){_MONTH}\2{_YEAR}|{_MONTH}([/-]){_DAY}\3{_YEAR}"
)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_CODE = re.compile(r"[+-]?0\d")
PATTERNS = {
    TIME: re.compile(rf"(?:{_DATE})(?:[T ]{_HOUR} ?(?:Z|UTC|[+-]\d\d:?\d\d)?)?|{_HOUR}"),
    WHOLE: re.compile(r"[+-]?\d+"),
    DECIMAL: _DECIMAL,
    FORMATTED: re.compile(
        r"[-+\u2212]? ?[$€£¥]? ?[-+\u2212]?"
        r"(?:\d{1,3}(?:([,.' \u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?|\d+[.,]?\d*|[.,]\d+)"
        r" ?[%‰$€£¥]?"
    ),
}
"""What strings of each form look like; of several, the first one counts."""

MOSTLY = 0.5
"""Of the rows that have a value, the share above which rare levels are worth a warning."""

TOO_UNLIKELY = 1e-3
"""Probability below which unknown levels in all rows are not due to chance."""

MANY_ROWS = 10
"""From so many rows on, rows are counted; in fewer, which may be related, distinct levels are."""

OR_CATEGORIES = "if they are categories, name them in categorical_features or give them that dtype."

BEGIN = (
    "Begin with more rows, of all kinds, or with encoder=FrozenEstimator(encoder), where the "
    "encoder is a TabularEncoder that has learnt from all parts by its own partial_fit."
)

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
    "In columns {} of X most rows have a rare level, one of fewer rows than min_frequency, so that "
    "they say little. Leave these columns out if they identify rows; else lower min_frequency."
)
NUMBERS = (
    "Columns {} of X hold strings that read as numbers, but are taken for categories, which have "
    "no order. If they are numbers, convert them before fit and predict, for instance by "
    "pandas.to_numeric(column, errors='coerce'), which makes all else missing; if they identify "
    "rows, leave them out; " + OR_CATEGORIES
)
SIGNS = (
    "Columns {} of X hold strings that read as numbers written with signs (as in '1,234.5' or "
    "'12%'), but are taken for categories, which have no order. If they are numbers, remove the "
    "signs and convert them before fit and predict, for instance by "
    "pandas.to_numeric(column.str.replace(',', '')); " + OR_CATEGORIES
)
TIMES = (
    "Columns {} of X hold strings that read as dates or times, but are taken for categories, of "
    "which later ones will be unknown. Take numbers from them before fit and predict, such as "
    "year, month, weekday, hour or days since an event, for instance by "
    "pandas.to_datetime(column); " + OR_CATEGORIES
)
PREMATURE = (EMPTY, RARE)
"""Warnings that parts of a table do not give, since later parts may have more values."""

OF_FORM = {TIME: TIMES, FORMATTED: SIGNS, DECIMAL: NUMBERS, WHOLE: NUMBERS}
TWINS = (
    "Columns {} of X have numbers or booleans beside strings that read the same, as 1 and '1' do, "
    "which are taken for different levels. Make all of them strings before fit and predict, for "
    "instance by column.astype(str), or all numbers."
)
UNKNOWN_LEVELS = (
    "In columns {} of X no level is among those of fit, such as {}: all rows count as unknown "
    "there. Check that values are written as in fit: 1 is neither '1' nor '01', nor is True 'True'."
)
NEW_LEVELS = (
    "In columns {} of X most rows of this part have levels that are new, or were rare at first: "
    "they count as unknown, as levels are learnt from the rows that came first alone. " + BEGIN
)
CONSTANT = (
    "Columns {} of X do not tell the rows of this first part apart. Scales and levels are learnt "
    "from it alone, so that these columns are encoded as 0, whatever comes later. " + BEGIN
)


def warn_of(message: str, labels: list[Any], examples: Sequence[Any] = ()) -> None:
    """Warn of columns, if there are any; the message has a place for their names."""
    if labels:
        text = message.format(list_few(labels), list_few(list(examples)))
        warnings.warn(text, UserWarning, stacklevel=find_stack_level())


def list_few(items: list[Any]) -> str:
    """Write down the items of a list, and only the first of a long one."""
    return repr(items) if len(items) <= 20 else f"{items[:20]!r} and {len(items) - 20} more"


def advise(
    levels: list[Any], column: NumberScale | Category, *, is_declared: bool
) -> Iterator[str]:
    """Yield the warnings about a column with these levels, which a column of numbers has none of.

    `is_declared` says that the user has named it as a category. If it reads as numbers or times,
    rare levels are not mentioned.
    """
    if column.is_empty:
        yield EMPTY
    elif isinstance(column, Category):
        if has_twins(levels):
            yield TWINS
        is_rare = column.n_rare > MOSTLY * column.n_rows
        form = None if is_declared else read_as(levels)
        if form is not None and (form != WHOLE or is_rare):
            yield OF_FORM[form]
        elif column.is_cut:
            yield CUT
        elif is_rare:
            yield RARE


def warn_of_unknown(
    columns: Sequence[tuple[Any, Category]],
    blocks: Sequence[Sequence[LevelMatch]],
    *,
    is_part: bool,
) -> None:
    """Warn of columns in which no row of all blocks has a level that `fit` saw.

    In a part of a stream, also of those in which most rows have levels that the first part did not
    have, unless most rows of that had rare levels.
    """
    unknown, examples, new = [], [], []
    for (label, category), matches in zip(columns, zip(*blocks, strict=True), strict=True):
        n_rows = sum(match.n_rows for match in matches)
        n_known = sum(match.n_known for match in matches)
        is_rare = category.n_rare > MOSTLY * category.n_rows
        if n_known == 0 and category.levels and _is_suspicious(n_rows, matches, category):
            unknown.append(label)
            examples.append(category.levels[0])
        elif n_rows >= MANY_ROWS and 0 < n_known < (1.0 - MOSTLY) * n_rows and not is_rare:
            new.append(label)
    warn_of(UNKNOWN_LEVELS, unknown, examples)
    if is_part:
        warn_of(NEW_LEVELS, new)


def _is_suspicious(n_rows: int, matches: Sequence[LevelMatch], category: Category) -> bool:
    """Say whether it is unlikely to be chance that none of some rows has a known level.

    A few rows with one new level are usual. Ten rows, or several levels, are not, unless levels
    were often rare in `fit`; nor are levels of another type, such as numbers instead of strings.
    """
    # The probability, by the rule of succession, that a row has a level that no other row has.
    chance = (category.n_scarce + 1) / (category.n_rows + 2)
    n_draws = n_rows if n_rows >= MANY_ROWS else sum(match.n_levels for match in matches)
    types = frozenset[str]().union(*(match.types for match in matches))
    return n_rows > 0 and (chance**n_draws < TOO_UNLIKELY or types.isdisjoint(category.types))


def read_as(levels: Iterable[Any]) -> str | None:
    """Return the form of the levels of a column, or None if one of them is a code or other text.

    Numbers among the levels count too; markers of missing values do not. A number with a leading
    zero is a code.
    """
    forms = set()
    for level in levels:
        forms.add(_read_level(level))
        if None in forms or (len(forms - {""}) > 1 and TIME in forms):
            return None
    return next((form for form in (TIME, FORMATTED, DECIMAL, WHOLE) if form in forms), None)


def _read_level(level: Any) -> str | None:
    """Return the form of one level, "" for a marker and None for a code or other text."""
    if isinstance(level, int | float) and not isinstance(level, bool):
        return WHOLE if isinstance(level, int) or level.is_integer() else DECIMAL
    text = level.decode("latin-1") if isinstance(level, bytes) else level
    if not isinstance(text, str):
        return None
    text = text.strip()
    if text.lower() in MARKERS:
        return ""
    form = next((form for form, pattern in PATTERNS.items() if pattern.fullmatch(text)), None)
    return None if form != TIME and _CODE.match(text) else form


def has_twins(levels: Collection[Any]) -> bool:
    """Say whether strings stand beside other levels that read as they do, as "1" beside 1."""
    others = {str(level) for level in levels if not isinstance(level, str)}
    if not others:
        return False
    texts = {level.strip() for level in levels if isinstance(level, str)}
    numbers = [float(text) for text in texts if _DECIMAL.fullmatch(text)]
    wholes = {str(int(number)) for number in numbers if number.is_integer()}
    return not others.isdisjoint(texts | wholes | {str(number) for number in numbers})
