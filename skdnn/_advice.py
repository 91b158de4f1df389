"""What to tell a user about columns of a table that are probably not what they seem to be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from ._levels import Category

MOSTLY = 0.5
"""Of the rows that have a value, the share above which rare levels are worth a warning."""


def warn_of_empty(labels: Sequence[Any]) -> None:
    """Warn of columns without any value."""
    if labels:
        _warn(
            f"Columns {list(labels)!r} of X have no value in any row (of sample_weight above 0): "
            "all are missing. They are encoded as 0, whatever comes later. Leave them out, unless "
            "they have values in other parts of the data."
        )


def warn_of_rare(labels: Sequence[Any], categories: Sequence[Category]) -> None:
    """Warn of category columns that say little, because most rows have a rare level."""
    pairs = list(zip(labels, categories, strict=True))
    cut = [label for label, category in pairs if category.statistics.is_cut]
    if cut:
        _warn(
            f"Columns {cut!r} of X have more levels than max_categories. The most frequent ones "
            "are kept, all others count as rare. Leave these columns out if they identify rows; "
            "else raise max_categories."
        )
    rare = [
        label
        for label, category in pairs
        if category.statistics.rare_share > MOSTLY and not category.statistics.is_cut
    ]
    if rare:
        _warn(
            f"In columns {rare!r} of X most rows have a rare level, one of fewer rows than "
            "min_frequency, so that they say little. Leave these columns out if they identify "
            "rows; make them numbers if they are; else lower min_frequency."
        )


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
