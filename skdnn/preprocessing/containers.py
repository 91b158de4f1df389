"""What a user may hand in as a table, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..utils import fill_masked


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
