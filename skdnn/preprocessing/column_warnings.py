"""Warnings about columns that are probably not what they are taken for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ..utils import find_stack_level
from .categories import Category, Encounter, Levels, LevelStatistics
from .columns import list_few
from .numerals import DECIMAL, FORMATTED, TIME, WHOLE, has_twins, read_as

MOSTLY = 0.5
"""Of the rows that have a value, the share above which rare levels are worth a warning."""

TOO_UNLIKELY = 1e-3
"""The probability below which it is no accident that all rows have unknown levels."""

MANY_ROWS = 10
"""From here on rows are counted; of fewer, which may belong together, distinct levels are."""

OR_CATEGORIES = "if they are categories, name them in categorical_features or give them that dtype."

BEGIN = (
    "Begin with more rows, of all kinds, or with encoder=FrozenEstimator(TabularEncoder().fit(X)), "
    "fitted to such rows."
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
TWINS = (
    "Columns {} of X have numbers or booleans beside strings that read the same, as 1 and '1' do, "
    "which are taken for different levels. Make all of them strings before fit and predict, for "
    "instance by column.astype(str), or all numbers."
)
UNKNOWN = (
    "In columns {} of X no level is among those of fit, such as {}: all rows count as unknown "
    "there. Check that values are written as in fit: 1 is neither '1' nor '01', nor is True 'True'."
)
NEW = (
    "In columns {} of X most rows of this part have levels that are new, or were rare at first: "
    "they count as unknown, as levels are learnt from the rows that came first alone. " + BEGIN
)
CONSTANT = (
    "Columns {} of X do not tell the rows of this first part apart. Scales and levels are learnt "
    "from it alone, so that these columns are encoded as 0, whatever comes later. " + BEGIN
)
CLIPPED = (
    "Columns {} of X had two values at first, and have others in most rows of this part: they are "
    "encoded as flags, of which other values are cut off. " + BEGIN
)


class Advice:
    """Columns to warn of, by what there is to say of them."""

    def __init__(self) -> None:
        self._labels: dict[str, list[Any]] = {}

    def add(self, message: str, label: Any) -> None:
        """Note a column; the message has a place for the names of all that it is about."""
        self._labels.setdefault(message, []).append(label)

    def look_at(
        self, label: Any, levels: Levels, statistics: LevelStatistics, *, is_declared: bool
    ) -> None:
        """Note what to warn of in a category column; `is_declared` if the user says that it is one.

        If it reads as numbers or times, rare levels are not mentioned.
        """
        if has_twins(levels.values):
            self.add(TWINS, label)
        is_rare = statistics.n_rare > MOSTLY * statistics.n_rows
        form = None if is_declared else read_as(levels.values)
        if form == TIME:
            self.add(TIMES, label)
        elif form == FORMATTED:
            self.add(SIGNS, label)
        elif form == DECIMAL or (form == WHOLE and is_rare):
            self.add(NUMBERS, label)
        elif statistics.is_cut:
            self.add(CUT, label)
        elif is_rare:
            self.add(RARE, label)

    def warn(self) -> None:
        """Warn once for each kind."""
        for message, labels in self._labels.items():
            warn_of(message, labels)


def warn_of(message: str, labels: list[Any], *, examples: Sequence[Any] = ()) -> None:
    """Warn of columns, if there are any; the message has a place for their names."""
    if labels:
        text = message.format(list_few(labels), list_few(list(examples)))
        warnings.warn(text, UserWarning, stacklevel=find_stack_level())


def warn_of_unknown(
    labels: Sequence[Any], categories: Sequence[Category], blocks: Sequence[Sequence[Encounter]]
) -> None:
    """Warn of columns in which no row of all blocks has a level that `fit` saw.

    A few rows with one new level are usual. Ten rows, or several levels, are not, unless rare
    levels in `fit` explain them; nor are levels of another kind, as numbers beside strings.
    """
    found, examples = [], []
    for i, (label, category) in enumerate(zip(labels, categories, strict=True)):
        encounters = [block[i] for block in blocks]
        if category.rows and _is_suspicious(encounters, category.statistics):
            found.append(label)
            examples.append(next(iter(category.rows)))
    warn_of(UNKNOWN, found, examples=examples)


def _is_suspicious(encounters: Sequence[Encounter], statistics: LevelStatistics) -> bool:
    """Say whether it is no accident that no level is known."""
    n_rows = sum(encounter.n_rows for encounter in encounters)
    if n_rows == 0 or any(encounter.n_known for encounter in encounters):
        return False
    kinds = frozenset[str]().union(*(encounter.kinds for encounter in encounters))
    n_levels = sum(encounter.n_levels for encounter in encounters)
    # How likely it is, by the rule of succession, that a row has a level that others do not have.
    chance = (statistics.n_scarce + 1) / (statistics.n_rows + 2)
    is_unlikely = chance ** (n_rows if n_rows >= MANY_ROWS else n_levels) < TOO_UNLIKELY
    return is_unlikely or kinds.isdisjoint(statistics.kinds)


def warn_of_new(
    labels: Sequence[Any], categories: Sequence[Category], encounters: Sequence[Encounter]
) -> None:
    """Warn of columns where most rows of a part have other levels than the first one had.

    Those without any are left to `warn_of_unknown`, and those of many rare levels to `fit`.
    """
    found = [
        label
        for label, category, (n_rows, n_known, *_) in zip(
            labels, categories, encounters, strict=True
        )
        if n_rows >= MANY_ROWS
        and 0 < n_known < (1.0 - MOSTLY) * n_rows
        and category.statistics.n_rare <= MOSTLY * category.statistics.n_rows
    ]
    warn_of(NEW, found)
