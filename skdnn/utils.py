"""Functions that preprocessing, training and the estimator share; imports none of them.

No other module imports a private name of scikit-learn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from inspect import signature
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import sklearn
from sklearn.base import _fit_context
from sklearn.utils import metaestimators
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    RealNotInt,
    StrOptions,
)
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight
from sklearn.utils.validation import _check_y as check_labels
from sklearn.utils.validation import _num_samples as count_samples

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for scikit-learn's mixin where there is none."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            """Refuse callbacks, which scikit-learn has from 1.9 on."""
            raise ImportError(
                f"set_callbacks needs scikit-learn >= 1.9, which has callbacks; this is "
                f"{sklearn.__version__}. Upgrade it, or read history_ after the fit."
            )


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "Options",
    "RealNotInt",
    "StrOptions",
    "check_feature_names_in",
    "check_labels",
    "count_samples",
]
"""Names of scikit-learn that other modules import from here."""

BLOCK_VALUES = 1 << 17
"""Numbers in a block of a table: a megabyte in float64, which the cache of a core holds."""

ROUNDING = 1e-9
"""Weights, and sums of them, that differ by less than this share are equal."""

MISSING_VALUES: dict[str, Any] = {"O": None, "U": None, "S": None, "m": "NaT", "M": "NaT"}
"""What stands for a missing value, by kind of dtype; NaN for the others."""

with_usual_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""A decorator: NumPy's usual answer to overflow, whatever `numpy.seterr` says in the process.

Numbers too small for a float are zeros here as everywhere, and no mistake.
"""

CALLBACK_STATE = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}
"""What scikit-learn keeps on an estimator during a fit, and removes after it."""


FILE_FORMAT = 1
"""Of the state that estimators write into files: counts up when an older one cannot be read."""


def add_format(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator with its format and the version that writes it."""
    from . import __version__

    return {"skdnn_format": FILE_FORMAT, "skdnn_version": __version__, **to_plain(state)}


def to_plain(value: Any) -> Any:
    """Return data with ranges as lists, and arrays that lie in a file as plain ones."""
    if type(value) is dict:
        return {key: to_plain(part) for key, part in value.items()}
    if type(value) is list:
        return [to_plain(part) for part in value]
    if isinstance(value, range):
        return list(value)
    return np.asarray(value) if isinstance(value, np.memmap) else value


def remove_format(state: dict[str, Any], estimator: Any) -> dict[str, Any]:
    """Return a state as it was before `add_format`; parameters newer than that have defaults.

    Raises
    ------
    ValueError
        If it has another format, or none.
    """
    from . import __version__

    state, name = state.copy(), type(estimator).__name__
    number, version = state.pop("skdnn_format", None), state.pop("skdnn_version", None)
    if number == FILE_FORMAT:
        known = signature(type(estimator).__init__).parameters.values()
        return {p.name: p.default for p in known if p.default is not p.empty} | state
    if not isinstance(number, int):
        raise ValueError(
            f"This {name} was written by a development version of skdnn from before 0.1.0, whose "
            "files have no format number. Load it with that version, or fit it again."
        )
    advice = "Upgrade skdnn" if number > FILE_FORMAT else f"Load it with skdnn=={version}"
    raise ValueError(
        f"This {name} was written by skdnn {version} in format {number}, but skdnn {__version__} "
        f"reads format {FILE_FORMAT}. {advice}, or fit it again."
    )


Method = TypeVar("Method", bound=Callable[..., Any])


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """Return scikit-learn's decorator of methods that fit, which checks parameters; with a type."""
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)


def available_if(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Return scikit-learn's decorator of methods that not all objects have; with a type."""
    return metaestimators.available_if(check)


@contextmanager
def refuse_damage(what: str) -> Iterator[None]:
    """Raise any error as one that says that `what`, which is being restored, is damaged."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{what} is damaged, and cannot be restored ({type(error).__name__}: {error}). Load it "
            "from another copy of the file, or fit anew with warm_start=False."
        ) from error


SIMPLE_TYPES: dict[Any, Any] = {
    "int": Integral,
    "float": Real,
    "bool": bool | np.bool_,
    "str": str,
    "np.ndarray": np.ndarray,
}
"""The types that `check_fields` looks at, by the annotations of fields."""


def check_fields(restored: Any) -> None:
    """Raise an error if a field of a dataclass has another simple type than it declares."""
    types = {field.name: SIMPLE_TYPES.get(field.type, object) for field in fields(restored)}
    check_types(vars(restored), types)


def check_types(values: dict[str, Any], types: dict[str, Any]) -> None:
    """Raise an error if values by name are missing, or of other types than these."""
    for name, type_ in types.items():
        if not isinstance(values[name], type_):
            raise TypeError(f"{name} is of type {type(values[name]).__name__}")


def leave_out_callback_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator for a copy, without what exists during a fit alone.

    Before a fit, the context that a search has set for the callbacks is kept.
    """
    is_at_work = not CALLBACK_STATE.isdisjoint(state)
    left_out = {*CALLBACK_STATE, "_parent_callback_ctx"} if is_at_work else set()
    return {name: value for name, value in state.items() if name not in left_out}


def cut_rows(n_rows: int, n_columns: int = 1, n_values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Yield the blocks of rows of a table of so many columns, with `n_values` numbers at most."""
    size = max(1, n_values // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def is_masked(values: Any) -> bool:
    """Say whether values are in a masked array, and some of them masked."""
    return isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())


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


def check_weights(
    sample_weight: Any, X: Any, *, may_vanish: bool, name: str = "sample_weight"
) -> np.ndarray | None:
    """Return the weights as float64, or None; they must be non-negative, and not all be zero."""
    if sample_weight is None:
        return None
    options: dict[str, Any] = {"dtype": np.float64}
    if "allow_all_zero_weights" in signature(_check_sample_weight).parameters:  # from 1.9 on
        options["allow_all_zero_weights"] = may_vanish
    try:
        weights = _check_sample_weight(fill_masked(sample_weight), X, **options)
    except (TypeError, ValueError) as error:
        if "sample" in str(error).lower():
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError  # of NumPy, without a name
        raise kind(f"{name} must be numbers, one for each row: {error}") from error
    if (weights < 0).any():
        raise ValueError(
            f"Negative values in data passed to `{name}`: the smallest is {weights.min()}. "
            "Weights must be at least 0."
        )
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not np.isfinite(total):
        raise ValueError(
            f"The sum of `{name}` must be finite, but the largest is {weights.max()}. Divide by it."
        )
    if not may_vanish and not weights.any():
        raise ValueError(f"{name} is zero in every row; at least one must be above zero.")
    return weights


def is_checked(estimator: Any, X: Any) -> bool:
    """Say whether scikit-learn's checks of names and shape may be skipped for an array.

    They take longer than predicting a row. Names, where `fit` saw some, are compared by them; the
    numbers of the array are not looked at here.
    """
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype in (np.float64, np.float32)
        and X.shape[1] == estimator.n_features_in_
        and len(X) > 0
        and not hasattr(estimator, "feature_names_in_")
    )


DOCUMENTATION = "docs/user_guide.md"
"""Where the HTML views of estimators link to; relative, as the pages are published nowhere yet."""


class DocumentedMixin:
    """Let an estimator's HTML view, in a notebook, link to this package's documentation.

    scikit-learn shows the descriptions of parameters only where there is such a link.
    """

    _doc_link_module = "skdnn"
    _doc_link_template = DOCUMENTATION


PASSED_OVER = ("skdnn", "sklearn", "numpy", "joblib", "contextlib")
"""Packages whose frames are no callers: wrappers of methods, and searches."""


def find_stack_level() -> int:
    """Return the `stacklevel` of a warning that is to name the line that called this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in PASSED_OVER:
            break
        frame, level = frame.f_back, level + 1
    return level


def get_output_container(transformer: Any) -> str:
    """Return what `set_output`, or the configuration, wants: "default", "pandas" or "polars"."""
    return _get_output_config("transform", transformer)["dense"]
