"""NumPy's masked arrays, in which what is masked is missing; others would read what lies below."""

from __future__ import annotations

from typing import Any

import numpy as np

MISSING_VALUES = {"O": None, "U": None, "S": None, "m": "NaT", "M": "NaT"}
"""What stands for a missing value, by kind of dtype; NaN for the others."""


def fill_masked(values: Any) -> Any:
    """Return an array with missing values where some are masked; other values stay as they are."""
    if isinstance(values, list | tuple) and any(is_masked(row) for row in values):
        values = np.ma.array(values)
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if not is_masked(values):
        return np.asarray(values)
    kind = values.dtype.kind
    dtype = np.float64 if kind in "biu" else object if kind in "US" else values.dtype
    filled = np.array(values, dtype)
    filled[np.ma.getmaskarray(values)] = MISSING_VALUES.get(kind, np.nan)
    return filled


def is_masked(values: Any) -> bool:
    """Say whether values are in a masked array, and some of them masked."""
    return isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())
