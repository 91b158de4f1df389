"""What moves an estimator's logit: gradients at the input, and their integrals."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils.validation import check_array

from ..preprocessing import TabularEncoder
from ..preprocessing.columns import take_table
from ..training.prediction import average_gradients
from ..training.threads import limit_blas_threads
from ..utils import fill_masked
from .encoders import FLOATS, OwnEncoder, encode
from .tables import read_table


def input_gradients(estimator: Any, X: Any, method: str, baseline: Any, steps: Any) -> np.ndarray:
    """Return the gradients of `DeepBinaryClassifier.input_gradients`."""
    encoder, predictor = estimator._encoder, estimator._predictor
    matrix = read_table(estimator, X, encoder, accept_sparse=False)
    dtype = np.result_type(matrix.dtype, estimator.params_)
    params = estimator.params_.astype(dtype, copy=False)
    X = matrix.astype(dtype, copy=False) if encoder is None else _read_numbers(encoder, X)

    def gradient(rows: np.ndarray) -> np.ndarray:
        encoded = rows if encoder is None else encode(encoder, rows).astype(dtype)
        with limit_blas_threads(0):
            grads = average_gradients(*predictor.input_gradients(params, encoded))
            if encoder is not None:
                sources = encoder.source_features_
                places, shape = (np.arange(len(sources)), sources), (len(sources), rows.shape[1])
                grads = grads * encoder._input_slopes(rows)
                grads = grads @ csr_array((np.ones(len(sources)), places), shape)  # by feature
        return grads / estimator.temperature_

    if method == "gradient":
        if baseline is not None:
            raise ValueError("baseline is for method='integrated'; method='gradient' has none.")
        return gradient(X)
    if method != "integrated":
        raise ValueError(f"method must be 'gradient' or 'integrated', got {method!r}.")
    return integrate_gradients(gradient, X, baseline, steps)


def _read_numbers(encoder: Any, X: Any) -> np.ndarray:
    """Return a table of numbers as an array.

    Raises
    ------
    ValueError
        If the encoder has no slopes, or the table has categories, along which there are none.
    """
    if isinstance(encoder, OwnEncoder):
        raise ValueError(
            f"input_gradients cannot see through the encoder {encoder.encoder!r}. Put it before "
            "the classifier in a pipeline, and ask for gradients at the encoded rows."
        )
    X = take_table(X)
    if isinstance(encoder, TabularEncoder):
        encoder._input_slopes(X[:1])  # refuses categories by their names
    return check_array(X, dtype=FLOATS, ensure_all_finite="allow-nan")


def integrate_gradients(
    gradient: Callable[[np.ndarray], np.ndarray], X: np.ndarray, baseline: Any, steps: Any
) -> np.ndarray:
    """Return the mean gradient on the way from a baseline to each row, times the way.

    ``(x - x') * mean_k gradient(x' + (k + 1/2) / steps (x - x'))``: the midpoint rule.
    """
    if not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}.")
    baseline = np.zeros(X.shape[1]) if baseline is None else fill_masked(baseline)
    start = np.asarray(baseline, dtype=np.float64)
    if start.shape != X.shape[1:] or not np.isfinite(start).all():
        raise ValueError(
            f"baseline must be one finite number for each of the {X.shape[1]} features, got an "
            f"array of shape {start.shape}."
        )
    is_missing = np.isnan(X).any(axis=0)
    if is_missing.any():
        raise ValueError(
            f"method='integrated' needs rows without missing values, but there are some in the "
            f"columns {np.flatnonzero(is_missing).tolist()}. Fill them, leave these rows out, or "
            "take method='gradient'."
        )
    way = X - start.astype(X.dtype)
    n_steps, total = int(steps), np.zeros(X.shape)
    for k in range(n_steps):
        total += gradient(X - way * ((n_steps - k - 0.5) / n_steps))
    return (way * (total / n_steps)).astype(X.dtype)
