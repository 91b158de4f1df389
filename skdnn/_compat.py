"""The only place that knows scikit-learn's private names."""

from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight

__all__ = ["HasMethods", "Interval", "Options", "StrOptions", "check_sample_weight", "fit_context"]


def check_sample_weight(sample_weight: Any, X: np.ndarray, *, may_vanish: bool) -> np.ndarray:
    """Return weights as a float64 array, one for each row of X; `may_vanish` lets all be zero."""
    options: dict[str, Any] = {"dtype": np.float64}
    if "allow_all_zero_weights" in signature(_check_sample_weight).parameters:  # from 1.9 on
        options["allow_all_zero_weights"] = may_vanish
    return _check_sample_weight(sample_weight, X, **options)
