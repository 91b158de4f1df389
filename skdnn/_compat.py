"""What the encoder and the classifier share: scikit-learn's private names, and some checks.

No other module imports a private name of scikit-learn.
"""

from inspect import signature
from typing import Any

import numpy as np
import sklearn
from sklearn.base import _fit_context as fit_context
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

        def set_callbacks(self, *callbacks):
            """Refuse callbacks, which scikit-learn has from 1.9 on."""
            raise ImportError(
                f"set_callbacks needs scikit-learn >= 1.9, which has callbacks; this is "
                f"{sklearn.__version__}. Upgrade it, or read history_ after the fit."
            )


__all__ = [
    "CALLBACK_STATE",
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "Options",
    "RealNotInt",
    "StrOptions",
    "check_feature_names_in",
    "check_labels",
    "check_weights",
    "count_samples",
    "fit_context",
    "get_output_container",
    "is_checked",
    "leave_out_callback_state",
    "with_usual_errors",
]

with_usual_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""A decorator: NumPy's usual answer to overflow, whatever `numpy.seterr` says in the process.

Numbers too small for a float are zeros here as everywhere, and no mistake.
"""

CALLBACK_STATE = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}
"""What scikit-learn keeps on an estimator during a fit, and removes after it."""


def leave_out_callback_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a copy is to have of an estimator, in the middle of a fit no more than after it.

    Before a fit it has what a search has given it for that.
    """
    is_at_work = not CALLBACK_STATE.isdisjoint(state)
    left_out = {*CALLBACK_STATE, "_parent_callback_ctx"} if is_at_work else set()
    return {name: value for name, value in state.items() if name not in left_out}


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
        weights = _check_sample_weight(sample_weight, X, **options)
    except TypeError as error:  # of which NumPy does not say whose it is
        raise TypeError(f"{name} must be numbers, one for each row: {error}") from error
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
    """Say whether an array has the form that `fit` left, and scikit-learn's checks would return it.

    They take longer than predicting a row. They alone compare names, and look at the numbers.
    """
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype in (np.float64, np.float32)
        and X.shape[1] == estimator.n_features_in_
        and len(X) > 0
        and not hasattr(estimator, "feature_names_in_")
    )


def get_output_container(transformer: Any) -> str:
    """Return what `set_output`, or the configuration, wants: "default", "pandas" or "polars"."""
    return _get_output_config("transform", transformer)["dense"]
