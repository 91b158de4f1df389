"""The only place that knows scikit-learn's private names."""

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
    "check_sample_weight",
    "count_samples",
    "fit_context",
    "get_output_container",
    "leave_out_callback_state",
]

CALLBACK_STATE = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}
"""What scikit-learn keeps on an estimator during a fit, and removes after it."""


def leave_out_callback_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a copy is to have of an estimator, in the middle of a fit no more than after it.

    Before a fit it has what a search has given it for that.
    """
    is_at_work = not CALLBACK_STATE.isdisjoint(state)
    left_out = {*CALLBACK_STATE, "_parent_callback_ctx"} if is_at_work else set()
    return {name: value for name, value in state.items() if name not in left_out}


def check_sample_weight(sample_weight: Any, X: np.ndarray, *, may_vanish: bool) -> np.ndarray:
    """Return weights as a float64 array, one for each row of X; `may_vanish` lets all be zero."""
    options: dict[str, Any] = {"dtype": np.float64}
    if "allow_all_zero_weights" in signature(_check_sample_weight).parameters:  # from 1.9 on
        options["allow_all_zero_weights"] = may_vanish
    return _check_sample_weight(sample_weight, X, **options)


def get_output_container(transformer: Any) -> str:
    """Return what `set_output`, or the configuration, wants: "default", "pandas" or "polars"."""
    return _get_output_config("transform", transformer)["dense"]
